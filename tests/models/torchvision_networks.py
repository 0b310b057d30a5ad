"""torchvision's networks with random weights that answer as trained ones do: many sure, different objects."""

from functools import partial

import torch
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.segmentation import fcn_resnet50
from torchvision.ops import FrozenBatchNorm2d

FROZEN = partial(FrozenBatchNorm2d, eps=0.0)  # as torchvision makes it for its published weights

# Standard deviations of what the last layers predict: scores well apart, and boxes that move.
SPREAD = {
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 2.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 2.0,
    "classifier.4": 2.0,
}


def random_detector(kind, images, *, classes=91, norm=FROZEN, **options):
    """torchvision's `FasterRCNN` or `MaskRCNN` with ResNet-50 and FPN."""
    trunk = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm)
    return settle(kind(trunk, classes, **options), images)


def random_fcn(images, **options):
    """torchvision's `fcn_resnet50`."""
    return settle(fcn_resnet50(weights=None, weights_backbone=None, **options), images)


@torch.no_grad()
def settle(network, images):
    """Give batch normalisation statistics like those of the images, and spread the predictions.

    Without it a random network sees nearly the same everywhere, and its rounding errors are as large as the
    differences between two places. Small weights at the end of each residual block keep it from amplifying
    rounding errors from block to block.
    """
    hooks = []
    for name, module in network.named_modules():
        if hasattr(module, "running_var"):
            module.weight.uniform_(*((0.1, 0.3) if name.endswith("bn3") else (0.5, 1.0)))
            module.bias.normal_(0, 0.2)
            hooks.append(module.register_forward_pre_hook(take_statistics))
        elif name in SPREAD:
            hooks.append(module.register_forward_hook(Spread(SPREAD[name])))
    network.eval()(images)
    for hook in hooks:
        hook.remove()
    return network


def take_statistics(module, inputs):
    (features,) = inputs
    deviation = features.std(dim=(0, 2, 3))
    module.running_mean.copy_(features.mean(dim=(0, 2, 3)) + 0.2 * torch.randn_like(deviation))
    module.running_var.copy_(deviation**2 * torch.empty_like(deviation).uniform_(0.7, 1.4) + 0.01)


class Spread:
    """Give every channel mean 0 and this standard deviation over all places of the finest level."""

    def __init__(self, deviation):
        self.deviation = deviation

    def __call__(self, module, inputs, outputs):
        if self.deviation:
            rows = outputs.transpose(0, 1).flatten(1)
            mean, scale = rows.mean(dim=1), self.deviation / rows.std(dim=1)
            module.bias.copy_((module.bias - mean) * scale)
            module.weight.mul_(scale.view(-1, *[1] * (module.weight.ndim - 1)))
            self.deviation = None
        return module.forward(*inputs)
