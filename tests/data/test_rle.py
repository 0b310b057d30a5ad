"""Run-length encoded masks: decoded as pycocotools decodes them."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from course_utils.data.rle import decode_rle, encode_rle

# pycocotools 2.0 still hands its masks to NumPy in the manner of NumPy 1
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def run_lengths(mask):
    """The runs of a mask, counted one pixel at a time."""
    counts, now = [0], False
    for pixel in mask.T.flatten().tolist():
        if pixel != now:
            counts.append(0)
            now = pixel
        counts[-1] += 1
    return counts


masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


@settings(deadline=None, max_examples=50)
@given(masks)
def test_runs_of_any_mask(mask):
    assert torch.equal(decode_rle(run_lengths(mask), mask.shape), torch.from_numpy(mask))


@settings(deadline=None, max_examples=50)
@given(masks)
def test_text_of_any_mask_equals_pycocotools(mask):
    theirs = pytest.importorskip("pycocotools.mask")
    encoded = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (encoded["counts"], encoded["counts"].decode()):
        assert torch.equal(decode_rle(counts, mask.shape), torch.from_numpy(mask))
    listed = theirs.frPyObjects(
        {"counts": run_lengths(mask), "size": list(mask.shape)}, *mask.shape
    )
    assert listed["counts"] == encoded["counts"]


@settings(deadline=None, max_examples=50)
@given(masks)
def test_encoding_any_mask_equals_pycocotools(mask):
    theirs = pytest.importorskip("pycocotools.mask")
    encoded = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(torch.from_numpy(mask)) == encoded["counts"].decode()
    assert torch.equal(
        decode_rle(encode_rle(torch.from_numpy(mask)), mask.shape), torch.from_numpy(mask)
    )


def test_text_of_a_large_mask_equals_pycocotools():
    theirs = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    mask = (
        generator.random((40, 50)).repeat(9, axis=0).repeat(11, axis=1) > 0.5
    )  # runs of many letters
    mask[:, 200:400] = False
    encoded = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert torch.equal(decode_rle(encoded["counts"], mask.shape), torch.from_numpy(mask))
    assert encode_rle(torch.from_numpy(mask)) == encoded["counts"].decode()


def test_what_is_encoded_is_one_mask(as_student):
    for wrong, error in ((torch.zeros(2, 3), TypeError), (torch.zeros(1, 2, 3).bool(), ValueError)):
        with pytest.raises(error, match=r"^mask: expected"):
            encode_rle(wrong)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5], "expected runs that add up to 2 x 3 = 6 pixels, got 5"),
        ([], "got 0"),
        ([3, -1, 4], "got a run of -1"),
        ([3, 1.5, 1.5], "got a run of 1.5"),
        ([3, "3"], "got a run of '3'"),
        ("P", "the string ends in the middle of a number"),
        ("6 ", "expected characters from '0' to 'o', got ' '"),
        ("6é", "expected characters"),
        (b"6\x80", "expected characters"),
        ("o" * 30 + "0", "got "),
        ("O7", "got a run of -1"),
    ],
)
def test_broken_run_lengths(as_student, counts, message):
    with pytest.raises(ValueError, match=f"^counts: .*{re.escape(message)}"):
        decode_rle(counts, (2, 3))


def test_a_size_that_is_none():
    with pytest.raises(ValueError, match=r"^size: expected \(height, width\) above zero"):
        decode_rle([0], (0, 3))
