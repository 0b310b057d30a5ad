"""A DETR that converges sooner: its queries begin at the most promising tokens of the encoder."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.models import backbones, detr
from course_utils.models.attention import sine_positions
from course_utils.models.detr import (
    DETR,
    Losses,
    Prediction,
    absolute_boxes,
    box_cost,
    box_layers,
    box_losses,
    match_queries,
)
from course_utils.models.regions import Detections
from course_utils.ops.losses import sigmoid_focal_loss

CLASS_WEIGHT = 2.0  # of the class loss and cost
SIDE = 0.35  # of the box that each token begins with, relative to the image
PRIOR = 0.02  # probability of a class before training
NEVER = -1e4  # score of a token in the padding; -inf would make its loss nan


def set_loss(
    scores: Float[Tensor, "b q classes"],
    boxes: Float[Tensor, "b q 4"],
    image: Int64[Tensor, " n"],
    labels: Int64[Tensor, " n"],
    truth: Float[Tensor, "n 4"],
) -> Losses:
    """As `detr.set_loss`, but with one sigmoid per class and the focal loss; "no object" is all zeros.

    Args:
        scores: of the classes 1, 2, ...; there is none for "no object".
        boxes, image, labels, truth: as in `detr.match_objects`.

    Returns:
        "class", "l1" and "giou", averaged over the images; each is divided by the objects of its image.
    """
    with torch.no_grad():
        score = scores[image, :, labels - 1]  # [n, q]
        present = sigmoid_focal_loss(score, torch.ones_like(score))
        absent = sigmoid_focal_loss(score, torch.zeros_like(score))
        cost = box_cost(boxes[image], truth) + CLASS_WEIGHT * (present - absent)
        query = match_queries(cost, image)
    found = query >= 0
    image, query = image[found], query[found]
    target = torch.zeros_like(scores)
    target[image, query, labels[found] - 1] = 1
    objects = image.bincount(minlength=len(scores)).clamp(min=1)
    loss = sigmoid_focal_loss(scores, target).sum(dim=(1, 2)) / objects
    losses = box_losses(boxes[image, query], truth[found], image, len(scores))
    return {"class": CLASS_WEIGHT * loss.mean()} | losses


class TwoStageDETR(DETR):
    """The encoder proposes a class and a box at each token, and the decoder refines the best ones.

    A query of the plain DETR has to learn during training where to look. Here it starts at a token that the
    image itself recommends, and each layer of the decoder moves the box of the one before.

    Args:
        classes, queries, channels, decoder_layers, settings: as in `DETR`; class 0 has no score of its own.

    Source: Zhu et al., "Deformable DETR", ICLR 2021, sections 4.2 and A.4 (iterative refinement, two stages);
    sines of the boxes as positions: Liu et al., "DAB-DETR", ICLR 2022. Attention is the plain one of DETR.
    """

    def __init__(
        self,
        *,
        classes: int,
        queries: int = 300,
        channels: int = 256,
        decoder_layers: int = 6,
        **settings,
    ):
        super().__init__(
            classes=classes - 1,
            queries=queries,
            channels=channels,
            decoder_layers=decoder_layers,
            **settings,
        )
        steps = range(1 + decoder_layers)  # the encoder's proposals, and each layer of the decoder
        self.scores = nn.ModuleList(nn.Linear(channels, classes - 1) for _ in steps)
        self.boxes = nn.ModuleList(box_layers(channels) for _ in steps)
        for scores, boxes in zip(self.scores, self.boxes, strict=True):
            nn.init.constant_(scores.bias, torch.tensor(PRIOR).logit().item())
            nn.init.zeros_(boxes[-1].weight)
            nn.init.zeros_(boxes[-1].bias)
        self.proposals = nn.Sequential(nn.Linear(channels, channels), nn.LayerNorm(channels))
        self.places = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, channels)
        )

    def predictions(
        self, images: Float[Tensor, "b 3 h w"], sizes: Int64[Tensor, "b 2"]
    ) -> list[Prediction]:
        """Scores and boxes of all tokens, then those of the queries after each decoder layer."""
        tokens, positions, places, mask = self.encode(images, sizes)
        candidates = self.proposals(tokens)
        start = torch.cat([places.flip(2), torch.full_like(places, SIDE)], dim=2)  # x, y, w, h
        scores = self.scores[0](candidates).masked_fill(~mask[..., None], NEVER)
        boxes = (self.boxes[0](candidates) + start.logit(eps=1e-3)).sigmoid()
        predictions = [(scores, boxes)]

        best = scores.amax(dim=2).topk(min(len(self.queries), tokens.shape[1])).indices[..., None]
        reference = boxes.gather(1, best.expand(-1, -1, 4)).detach()
        chosen = candidates.gather(1, best.expand(-1, -1, self.channels)).detach()
        queries = self.queries[: chosen.shape[1]] + chosen
        for layer, to_scores, to_boxes in zip(self.decoder, self.scores[1:], self.boxes[1:]):
            where = self.places(sine_positions(reference, self.channels // 2))
            queries = layer(queries, where, tokens, positions, mask)
            found = self.norm(queries)
            boxes = (to_boxes(found) + reference.logit(eps=1e-3)).sigmoid()
            predictions.append((to_scores(found), boxes))
            reference = boxes.detach()
        return predictions

    set_loss = staticmethod(set_loss)

    def detections(self, prediction: Prediction, sizes: Int64[Tensor, "b 2"]) -> Detections:
        """The best pairs of a query and a class, as many as there are queries; boxes in pixels."""
        scores, boxes = prediction[0].sigmoid(), absolute_boxes(prediction[1], sizes)
        best, order = scores.flatten(1).topk(scores.shape[1])
        query, label = order // scores.shape[2], order % scores.shape[2] + 1
        return [
            {"boxes": boxes[k, query[k]], "labels": label[k], "scores": best[k]}
            for k in range(len(sizes))
        ]


def small(classes: int, *, backbone: backbones.Backbone | None = None) -> TwoStageDETR:
    """The two-stage variant of `detr.small`.

    Args:
        classes, backbone: as there.

    Returns:
        The network, with random weights.
    """
    return TwoStageDETR(classes=classes, **detr.small_settings(backbone))
