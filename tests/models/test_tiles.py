"""Overlap-tile: the tiles together are the whole, and mirrors are torch's."""

import pytest
import torch
import torch.nn.functional as F

from course_utils.core import seed_everything
from course_utils.models.tiles import mean_over_views, mirror_pad, predict_in_tiles
from course_utils.models.unet import UNet


def test_mirrors_are_torchs():
    image = torch.rand(2, 5, 7)
    expected = F.pad(image[None], (4, 6, 4, 2), mode="reflect")[0]
    assert torch.equal(mirror_pad(image, 4, (2, 6)), expected)


def test_mirrors_face_each_other():
    image = torch.tensor([[[1.0, 2.0, 3.0]]])
    row = mirror_pad(image, 5, (0, 3))[0, 0]
    assert row.tolist() == [2, 1, 2, 3, 2, 1, 2, 3, 2, 1, 2]
    assert mirror_pad(torch.ones(1, 1, 1), 2, (2, 2)).shape == (1, 5, 5)


def test_tiles_of_a_valid_network_make_the_whole():
    seed_everything(0)
    model = UNet(classes=2, width=2, depth=2, padding=0).double().eval()
    image = torch.rand(3, 24, 36, dtype=torch.float64)
    with torch.no_grad():
        whole = model(mirror_pad(image, model.border, (model.border,) * 2)[None])[0]
        for tile in (4, 12, 36):
            tiles = predict_in_tiles(model, image, tile=tile, overlap=model.border)
            torch.testing.assert_close(tiles, whole)


def test_without_overlap_there_are_seams():
    torch.manual_seed(0)
    convolve = torch.nn.Conv2d(1, 1, 3, padding=1)
    image = torch.rand(1, 16, 16)
    with torch.no_grad():
        whole = convolve(mirror_pad(image, 1, (1, 1))[None])[0, :, 1:-1, 1:-1]
        seams = predict_in_tiles(convolve, image, tile=8, overlap=0)
        none = predict_in_tiles(convolve, image, tile=8, overlap=1)
    torch.testing.assert_close(none, whole)
    wrong = (seams - whole).abs()[0] > 1e-6
    assert wrong[7:9].all() and wrong[:, 7:9].all() and not wrong[1:7, 1:7].any()


def test_the_mean_over_views_turns_with_the_picture():
    """A filter that prefers one direction prefers none any more."""
    kernel = torch.tensor([[[[0.0, 1.0, 4.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]]])

    def predict(image):
        return F.conv2d(image[None], kernel, padding=1)[0]

    image = torch.rand(1, 6, 9)
    mean = mean_over_views(predict, image)
    isotropic = torch.tensor([[4, 1, 4], [1, 8, 1], [4, 1, 4]]) / 4
    torch.testing.assert_close(mean, F.conv2d(image[None], isotropic[None, None], padding=1)[0])
    for turned in (lambda x: x.flip(1), lambda x: torch.rot90(x, 1, (1, 2))):
        torch.testing.assert_close(mean_over_views(predict, turned(image)), turned(mean))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: predict_in_tiles(torch.sqrt, torch.rand(1, 4, 4), tile=0, overlap=1),
            "tile, overlap: expected tile >= 1 and overlap >= 0, got 0 and 1",
        ),
        (
            lambda: predict_in_tiles(
                lambda x: x[..., 2:-2, 2:-2], torch.rand(1, 4, 4), tile=4, overlap=1
            ),
            "predict: expected an output of at least 4 pixels, got 2",
        ),
        (
            lambda: predict_in_tiles(torch.sqrt, torch.rand(4, 4), tile=4, overlap=1),
            "image: expected shape [c, h, w], got [4, 4]",
        ),
        (
            lambda: mirror_pad(torch.rand(1, 4, 4), -1, (0, 0)),
            "before, after: expected 0 or more, got -1 and (0, 0)",
        ),
    ],
)
def test_messages(as_student, call, message):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message
