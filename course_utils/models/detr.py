"""DETR: detection as the prediction of a set, without anchors and without NMS."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_utils.models import backbones
from course_utils.models.attention import DecoderLayer, EncoderLayer, sine_positions
from course_utils.models.fpn import FPN
from course_utils.models.regions import Detections, GroundTruth, Sizes, image_sizes
from course_utils.ops.boxes import box_convert, generalized_box_iou
from course_utils.ops.matching import match_sets

NO_OBJECT = 0.1  # weight of the class "no object", which most queries predict
WEIGHTS = {"class": 1.0, "l1": 5.0, "giou": 2.0}  # of the three losses, and of the costs
Losses = dict[str, Float[Tensor, ""]]
Prediction = tuple[Float[Tensor, "b _ classes"], Float[Tensor, "b _ 4"]]  # class scores and boxes


class Encoded(NamedTuple):
    """An image after the encoder, as tokens.

    Attributes:
        tokens: one for each cell of the feature map.
        positions: sines and cosines of where they are.
        places: row and column of each cell, relative to the last ones of the image: above 0, up to 1.
        mask: which cells belong to the image; the others are padding.
    """

    tokens: Float[Tensor, "b n c"]
    positions: Float[Tensor, "b n c"]
    places: Float[Tensor, "b n 2"]
    mask: Bool[Tensor, "b n"]


def match_objects(
    scores: Float[Tensor, "b q classes"],
    boxes: Float[Tensor, "b q 4"],
    image: Int64[Tensor, " n"],
    labels: Int64[Tensor, " n"],
    truth: Float[Tensor, "n 4"],
) -> Int64[Tensor, " n"]:
    """The query that is responsible for each object: the cheapest one-to-one matching in each image.

    A query is cheap for an object if it gives the object's class a high probability and predicts a box near
    the object's.

    Args:
        scores: class scores of each query; class 0 is "no object".
        boxes: `cx, cy, w, h` of each query relative to the size of the image.
        image: the image of each object.
        labels: its class, 1 or above.
        truth: its box, `cx, cy, w, h`.

    Returns:
        The number of a query for each object; -1 if the image has more objects than queries and this one
        is left over.
    """
    with torch.no_grad():
        probability = scores.softmax(dim=2)[image, :, labels]  # [n, q]
        cost = box_cost(boxes[image], truth) - WEIGHTS["class"] * probability
        return match_queries(cost, image)


def match_queries(cost: Float[Tensor, "n q"], image: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The matching of each image by itself, from the costs of all objects; -1 for those left over."""
    matched = torch.full_like(image, -1)
    for number in image.unique():
        (mine,) = (image == number).nonzero(as_tuple=True)
        query, own = match_sets(cost[mine].T).unbind(dim=1)
        matched[mine[own]] = query
    return matched


def box_cost(boxes: Float[Tensor, "n q 4"], truth: Float[Tensor, "n 4"]) -> Float[Tensor, "n q"]:
    """How badly each box fits the object: L1 distance and GIoU, weighted as in the loss."""
    distance = (boxes - truth[:, None]).abs().sum(dim=2)
    boxes, truth = (box_convert(rows, "cxcywh", "xyxy") for rows in (boxes, truth))
    giou = generalized_box_iou(truth[:, None], boxes)[:, 0]
    return WEIGHTS["l1"] * distance - WEIGHTS["giou"] * giou


def set_loss(
    scores: Float[Tensor, "b q classes"],
    boxes: Float[Tensor, "b q 4"],
    image: Int64[Tensor, " n"],
    labels: Int64[Tensor, " n"],
    truth: Float[Tensor, "n 4"],
) -> Losses:
    """Match in each image, then compare classes and boxes.

    Every query that is not matched shall predict "no object". As most are not, these count a tenth.

    Args:
        scores, boxes, image, labels, truth: as in `match_objects`.

    Returns:
        "class", "l1" and "giou", with their weights 1, 5 and 2, averaged over the images. In each image the
        class loss is a weighted mean over the queries, and the box losses are means over the objects; in
        the paper both are means over the whole batch.

    Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 3.1.
    """
    query = match_objects(scores, boxes, image, labels, truth)
    found = query >= 0
    image, query = image[found], query[found]
    target = torch.zeros_like(scores[..., 0], dtype=torch.int64)  # [b, q]
    target[image, query] = labels[found]
    weight = torch.where(target == 0, NO_OBJECT, 1.0)
    loss = F.cross_entropy(scores.transpose(1, 2), target, reduction="none")
    per_image = (weight * loss).sum(dim=1) / weight.sum(dim=1)
    boxes = box_losses(boxes[image, query], truth[found], image, len(scores))
    return {"class": WEIGHTS["class"] * per_image.mean()} | boxes


def box_losses(
    boxes: Float[Tensor, "n 4"],
    truth: Float[Tensor, "n 4"],
    image: Int64[Tensor, " n"],
    images: int,
) -> Losses:
    """L1 distance and 1 - GIoU of matched boxes, averaged over the objects of an image, then over images."""
    share = 1 / (image.bincount(minlength=images)[image] * images)
    distance = (boxes - truth).abs().sum(dim=1)
    boxes, truth = (box_convert(rows, "cxcywh", "xyxy") for rows in (boxes, truth))
    giou = generalized_box_iou(boxes[:, None], truth[:, None])[:, 0, 0]
    return {
        "l1": WEIGHTS["l1"] * (share * distance).sum(),
        "giou": WEIGHTS["giou"] * (share * (1 - giou)).sum(),
    }


class DETR(nn.Module):
    """Features become tokens, an encoder lets them look at each other, and queries ask them for objects.

    Args:
        backbone: images in, features out; the coarsest ones are used.
        neck: with one level, which is used instead; see `FPN`.
        inputs: channels of the features that become tokens.
        classes: number of classes, 0 ("no object") included.
        channels, heads, hidden, dropout: of the transformer, see `EncoderLayer`.
        encoder_layers, decoder_layers: how many there are.
        queries: the largest number of objects that can be found in an image.

    Source: Carion et al., ECCV 2020; the defaults are the paper's.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        inputs: int,
        classes: int,
        channels: int = 256,
        heads: int = 8,
        hidden: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        queries: int = 100,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.backbone, self.neck, self.channels = backbone, neck, channels
        self.project = nn.Conv2d(inputs, channels, 1)
        layer = channels, heads, hidden, dropout
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(encoder_layers))
        self.queries = nn.Parameter(torch.randn(queries, channels))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(channels)
        self.scores = nn.Linear(channels, classes)
        self.boxes = box_layers(channels)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        ground_truth: GroundTruth | None = None,
        sizes: Sizes | None = None,
    ) -> Losses | Detections:
        """With ground truth the losses, without it what is found in each image.

        Args:
            images: RGB in 0..1, padded to a common size.
            ground_truth: "image", "boxes" and "labels" (1 or above) of all objects.
            sizes: height and width of each image without its padding; None if there is none.

        Returns:
            The losses by name, summed over the layers of the decoder; or for each image "boxes", "labels" and
            "scores", one row per query.
        """
        sizes = image_sizes(images, sizes).to(images.device)
        predictions = self.predictions(images, sizes)
        if ground_truth is None:
            return self.detections(predictions[-1], sizes)
        return self.losses(predictions, ground_truth, sizes)

    def predictions(
        self, images: Float[Tensor, "b 3 h w"], sizes: Int64[Tensor, "b 2"]
    ) -> list[Prediction]:
        """Class scores and boxes (`cx, cy, w, h`, relative to the image's size) after each decoder layer."""
        tokens, positions, _, mask = self.encode(images, sizes)
        query_positions = self.queries[None]
        queries = torch.zeros_like(query_positions).expand(len(images), -1, -1)
        predictions = []
        for layer in self.decoder:
            queries = layer(queries, query_positions, tokens, positions, mask)
            found = self.norm(queries)
            predictions.append((self.scores(found), self.boxes(found).sigmoid()))
        return predictions

    def encode(self, images: Float[Tensor, "b 3 h w"], sizes: Int64[Tensor, "b 2"]) -> Encoded:
        """The image as tokens, after they looked at each other."""
        features = self.backbone(images)
        level = features[-1] if self.neck is None else next(iter(self.neck(features).values()))
        mask, places = token_places(level.shape[2:], images.shape[2:], sizes)
        positions = sine_positions(places, self.channels // 2)
        tokens = self.project(level).flatten(2).transpose(1, 2)  # [b, n, c]
        for layer in self.encoder:
            tokens = layer(tokens, positions, mask)
        return Encoded(tokens, positions, places, mask)

    def losses(
        self, predictions: list[Prediction], ground_truth: GroundTruth, sizes: Int64[Tensor, "b 2"]
    ) -> Losses:
        """The set loss of every layer and image: summed over layers, averaged over images."""
        truth = relative_boxes(ground_truth, sizes)
        objects = ground_truth["image"], ground_truth["labels"], truth
        layers = [self.set_loss(*prediction, *objects) for prediction in predictions]
        return {name: sum(losses[name] for losses in layers) for name in layers[0]}

    set_loss = staticmethod(set_loss)

    def detections(self, prediction: Prediction, sizes: Int64[Tensor, "b 2"]) -> Detections:
        """For each query its best class besides "no object", and its box in pixels."""
        scores, labels = prediction[0].softmax(dim=2)[..., 1:].max(dim=2)
        boxes = absolute_boxes(prediction[1], sizes)
        return [
            {"boxes": boxes[k], "labels": labels[k] + 1, "scores": scores[k]}
            for k in range(len(sizes))
        ]


def box_layers(channels: int) -> nn.Sequential:
    """Three fully connected layers that end in four numbers."""
    return nn.Sequential(
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, 4),
    )


def token_places(
    grid: tuple[int, int], padded: tuple[int, int], sizes: Int64[Tensor, "b 2"]
) -> tuple[Bool[Tensor, "b n"], Float[Tensor, "b n 2"]]:
    """Which cells of a feature map belong to the image, and where they are in it.

    Args:
        grid: height and width of the feature map.
        padded: height and width of the batch in pixels.
        sizes: those of each image, without its padding.

    Returns:
        A mask, and row and column of each cell relative to the last row and column of the image, above 0 and
        up to 1.

    >>> token_places((2, 2), (64, 64), torch.tensor([[64, 32]]))[0]
    tensor([[ True, False,  True, False]])
    """
    counts = -(
        -sizes
        * torch.tensor(grid, device=sizes.device)
        // torch.tensor(padded, device=sizes.device)
    )
    rows, columns = (torch.arange(1, n + 1, device=sizes.device) for n in grid)
    cells = torch.cartesian_prod(rows, columns)  # [n, 2]
    mask = (cells <= counts[:, None]).all(dim=2)
    return mask, cells / counts[:, None]


def relative_boxes(ground_truth: GroundTruth, sizes: Int64[Tensor, "b 2"]) -> Float[Tensor, "n 4"]:
    """The boxes of all objects as `cx, cy, w, h`, relative to the size of their image."""
    scale = sizes.flip(1).repeat(1, 2)[ground_truth["image"]]
    return box_convert(ground_truth["boxes"], "xyxy", "cxcywh") / scale


def absolute_boxes(
    boxes: Float[Tensor, "b q 4"], sizes: Int64[Tensor, "b 2"]
) -> Float[Tensor, "b q 4"]:
    """The inverse: `x1, y1, x2, y2` in pixels."""
    return box_convert(boxes, "cxcywh", "xyxy") * sizes.flip(1).repeat(1, 2)[:, None]


def small_settings(backbone: backbones.Backbone | None = None) -> dict[str, Any]:
    """For images of about 100 pixels: 2 + 3 narrow layers, tokens at stride 8, and 16 queries."""
    backbone = backbone or backbones.small()
    inputs = dict(zip((8, 16, 32), backbone.channels[2:]))
    return {
        "backbone": backbone,
        "neck": FPN(inputs=inputs, channels=64, kernel_sizes={8: 3}),
        "inputs": 64,
        "channels": 64,
        "heads": 4,
        "hidden": 192,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "queries": 16,
        "dropout": 0.0,
    }


def small(classes: int, *, backbone: backbones.Backbone | None = None) -> DETR:
    """A DETR for a laptop.

    Args:
        classes: number of classes, 0 included.
        backbone: `backbones.small()` when left out.

    Returns:
        The network, with random weights.
    """
    return DETR(classes=classes, **small_settings(backbone))
