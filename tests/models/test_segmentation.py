"""fcn, unet and deconvnet: sizes in and out, the ideas that make them what they are, and that they learn."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from course_utils.models import backbones, deconvnet, fcn, unet
from course_utils.ops.losses import cross_entropy
from course_utils.ops.upsample import bed_of_nails, bilinear

NETWORKS = {
    "fcn": fcn.small,
    "fcn-32s": lambda classes: fcn.small(classes, stride=32),
    "fcn-8s": lambda classes: fcn.small(classes, stride=8),
    "fcn, mobilenet": lambda classes: fcn.FCN(
        backbone=backbones.mobilenet_v2(), classes=classes, stride=16
    ),
    "unet": unet.small,
    "unet, without skips": lambda classes: unet.small(classes, skips=False),
    "unet, half size": lambda classes: unet.UNet(classes=classes, width=4, depth=2, stride=2),
    "deconvnet": deconvnet.small,
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 35)], ids=str)
def test_scores_have_the_size_of_the_images(name, size):
    network = NETWORKS[name](7).eval()
    scores = network(torch.rand(2, 3, *size))
    assert scores.shape == (2, 7, *size)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_gets_a_gradient(name):
    network = NETWORKS[name](4)
    with torch.no_grad():  # FCN's scores begin near zero: let them be of any size
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    loss = cross_entropy(network(torch.rand(2, 3, 48, 64)), torch.randint(0, 4, (2, 48, 64)))
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["fcn", "unet", "deconvnet"])
def test_networks_learn_one_picture_by_heart(name):
    network = NETWORKS[name](3)
    y, x = torch.arange(32)[:, None], torch.arange(32)
    labels = ((x - 16) ** 2 + (y - 12) ** 2 < 64).long() + (y > 24).long() * 2
    labels = labels.clamp(max=2)[None]
    labels = labels.repeat(2, 1, 1)
    images = torch.stack([labels == c for c in range(3)], dim=1) * 0.5 + 0.25
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(30):
        loss = cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (network(images).argmax(dim=1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("name", NETWORKS)
def test_first_loss_is_that_of_a_guess(name):
    network = NETWORKS[name](9)
    loss = cross_entropy(network(torch.rand(4, 3, 64, 64)), torch.randint(0, 9, (4, 64, 64)))
    assert abs(loss.item() - torch.tensor(9.0).log().item()) < 0.7


# --- FCN


@pytest.mark.parametrize("size", [(64, 96), (45, 75)], ids=str)
def test_fcn_8s_adds_three_scores_from_coarse_to_fine(size):
    network = fcn.small(4, stride=8).eval()
    images = torch.rand(1, 3, *size)
    features = network.backbone(images)
    for score in network.score:
        torch.nn.init.normal_(score.weight)
    scores = network.score[0](features[4])
    for score, finer in zip(network.score[1:], (features[3], features[2])):
        rows, columns = finer.shape[2:]  # of an odd size the last row is half a pixel: cut it off
        scores = bilinear_by_two(scores)[..., :rows, :columns] + score(finer)
    expected = bilinear_by(scores, 8)[..., : size[0], : size[1]]
    assert_close(network(images)[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8])


def bilinear_by(scores, factor):
    return F.interpolate(scores, scale_factor=factor, mode="bilinear")


def bilinear_by_two(scores):
    """Bilinear with zeros beyond the border, as a transposed convolution has it."""
    return bilinear(F.pad(scores, [1] * 4), tuple(2 * n + 4 for n in scores.shape[2:]))[
        ..., 2:-2, 2:-2
    ]


def test_fcn_upsampling_starts_bilinear_and_learns():
    network = fcn.small(4, stride=8)
    scores = torch.rand(1, 4, 5, 7)
    assert_close(network.upsample[0](scores), bilinear_by_two(scores))
    assert all(layer.weight.requires_grad for layer in network.upsample)
    assert len(network.upsample) == 2 and len(network.score) == 3


def turn(network):
    """Turn every filter upside down and left to right."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.flip(2, 3))


@pytest.mark.parametrize("stride", fcn.STRIDES)
def test_fcn_is_aligned(stride):
    """With filters upside down, an image upside down gives the same scores upside down."""
    network = fcn.small(3, stride).eval().double()
    for score in network.score:
        torch.nn.init.normal_(score.weight)
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    scores = network(images)
    turn(network)
    # The first convolution is padded by one pixel more at the lower right: with an even size it is not used.
    network.backbone.stages[0][0] = torch.nn.ZeroPad2d(1)
    assert_close(network(images.flip(2, 3)).flip(2, 3), scores)


def test_fcn_with_another_stride():
    for stride in (32, 16, 8, 4, 2):
        assert fcn.small(3, stride)(torch.zeros(1, 3, 40, 33)).shape == (1, 3, 40, 33)
    for wrong in (1, 64, 7):
        with pytest.raises(ValueError, match=r"^stride: expected one of \(32, 16, 8, 4, 2\), got"):
            fcn.small(3, wrong)


# --- U-Net


def test_unet_of_the_paper():
    network = unet.UNet(classes=2, channels=1, padding=0)
    assert network.border == (572 - 388) // 2
    # One more for each channel than in the paper's: a scale and a shift in place of the bias.
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658 + 5_888


def test_unet_without_padding_answers_for_the_middle():
    network = unet.UNet(classes=2, channels=1, width=2, padding=0)
    assert network(torch.rand(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert network(torch.rand(1, 1, 188, 204)).shape == (1, 2, 4, 20)


@pytest.mark.parametrize("convolutions", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_unet_without_padding_gives_the_same_for_a_tile_as_for_the_whole(
    convolutions, stride, depth
):
    """Why overlap-tile works: every score has seen all it would see in the whole image."""
    shape = {"width": 4, "depth": depth, "convolutions": convolutions, "stride": stride}
    network = unet.UNet(classes=2, **shape, padding=0).eval().double()
    step, border = stride * 2**depth, network.border
    least = 2 * border + 4 * step
    size = next(n for n in range(least, 1000) if (n + 2 * convolutions * stride) % step == 0)
    image = torch.rand(1, 3, size, size, dtype=torch.float64)
    whole = network(image)
    assert whole.shape == (1, 2, size - 2 * border, size - 2 * border)
    tile = network(image[..., step:, 2 * step :])
    assert_close(tile, whole[..., step:, 2 * step :])


@pytest.mark.parametrize("size", [(186, 188), (188, 190), (172, 172), (16, 16)], ids=str)
def test_unet_without_padding_says_which_sizes_fit(size):
    network = unet.UNet(classes=2, channels=1, width=2, padding=0)
    with pytest.raises(ValueError, match=r"^images: expected height and width of 188, 204, 220, "):
        network(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("padding", [0, 1])
def test_unet_is_aligned(padding):
    network = unet.UNet(classes=2, width=4, depth=2, padding=padding).eval().double()
    images = torch.rand(1, 3, 60, 64, dtype=torch.float64)
    scores = network(images)
    turn(network)
    assert_close(network(images.flip(2, 3)).flip(2, 3), scores)


@pytest.mark.parametrize("skips", [False, True])
def test_unet_skips_carry_what_pooling_loses(skips):
    """Two images that differ only in where a dot lies within a pooled block."""
    first, second = torch.zeros(2, 1, 3, 32, 32)
    first[..., 8, 8], second[..., 9, 9] = 1, 1
    network = unet.UNet(classes=2, width=4, depth=2, skips=skips).eval()
    for level in network.backbone.down:
        for (
            convolution,
            *_,
        ) in level:  # that look at one pixel: only pooling and skips bring others in
            middle = convolution.weight.data[:, :, 1:2, 1:2].abs()
            convolution.weight.data = F.pad(middle, [1] * 4)
    assert torch.allclose(network(first), network(second)) != skips


def test_unet_messages():
    network = unet.small(3)
    with pytest.raises(ValueError, match=r"^images: expected shape \[b, 3, h, w\], got \[1, 1, 8"):
        network(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"^padding: expected 0 or 1, got 2"):
        unet.UNet(classes=2, padding=2)


# --- DeconvNet


def test_deconvnet_returns_maxima_to_where_they_were():
    network = deconvnet.small(3).eval()
    calls = []

    def spy(x, places, size):
        calls.append((x.shape, places, size))
        return deconvnet.unpool_maxima(x, places, size)

    network.unpool = spy
    network(torch.rand(1, 3, 40, 56))
    assert [size for _, _, size in calls] == [(5, 7), (10, 14), (20, 28), (40, 56)]
    assert all(shape == places.shape for shape, places, _ in calls)


@pytest.mark.parametrize(
    "unpool",
    [
        lambda x, places, size: bilinear(x, size),
        lambda x, places, size: F.pad(
            bed_of_nails(x, 2), (0, size[1] - 2 * x.shape[3], 0, size[0] - 2 * x.shape[2])
        ),
    ],
    ids=["bilinear", "transposed convolution"],
)
def test_deconvnet_with_another_way_up(unpool):
    network = deconvnet.small(3, unpool=unpool)
    assert network(torch.rand(1, 3, 41, 30)).shape == (1, 3, 41, 30)
    assert len(network.state_dict()) == len(deconvnet.small(3).state_dict())


def test_deconvnet_has_the_papers_widths():
    network = deconvnet.DeconvNet(classes=21)
    assert [level[0][0].out_channels for level in network.encoder] == [64, 128, 256, 512, 512]


def test_deconvnet_says_that_an_image_is_too_small():
    with pytest.raises(ValueError, match=r"^images: expected at least 16 x 16 pixels, got"):
        deconvnet.small(3)(torch.zeros(1, 3, 15, 20))
