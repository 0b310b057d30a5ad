"""course_utils.ops.upsample: loops = plain = torch, forward and backward, and the lecture's tables."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

from course_utils.ops.upsample import (
    bed_of_nails,
    bed_of_nails_loops,
    bicubic,
    bicubic_loops,
    bilinear,
    bilinear_loops,
    cubic_kernel,
    interpolation_matrix,
    interpolation_matrix_loops,
    linear_kernel,
    nearest,
    nearest_loops,
)
from tests.ops.feature_maps import (
    SMALL,
    assert_same,
    coarse,
    images,
    law,
    layouts,
    output_and_gradient,
    random,
    side,
)

# size before, size after
SIZES = {
    "twice": ((3, 4), (6, 8)),
    "odd": ((5, 7), (11, 3)),
    "shrink": ((9, 8), (4, 5)),
    "the same": ((4, 5), (4, 5)),
    "one pixel in": ((1, 1), (3, 4)),
    "one pixel out": ((3, 4), (1, 1)),
    "one row": ((1, 6), (5, 3)),
    "two pixels": ((2, 2), (7, 7)),
    "a long way": ((2, 13), (13, 2)),
}
sizes = pytest.mark.parametrize(("before", "after"), SIZES.values(), ids=SIZES)
corners = pytest.mark.parametrize("align_corners", [False, True])


# --- the lecture's tables


@pytest.mark.parametrize("enlarge", [bed_of_nails, bed_of_nails_loops])
def test_bed_of_nails_of_the_lecture(enlarge, device):
    output = enlarge(torch.tensor(SMALL, device=device), 2)
    assert output.tolist() == [[[[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("resize", [nearest, nearest_loops])
def test_nearest_of_the_lecture(resize, device):
    output = resize(torch.tensor(SMALL, device=device), (4, 4))
    assert output.tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]]


@pytest.mark.parametrize("resize", [bilinear, bilinear_loops])
def test_bilinear_of_the_lecture(resize, device):
    output = resize(torch.tensor(SMALL, device=device), (4, 4))
    assert output[0, 0].tolist() == [
        [1.00, 1.25, 1.75, 2.00],
        [1.50, 1.75, 2.25, 2.50],
        [2.50, 2.75, 3.25, 3.50],
        [3.00, 3.25, 3.75, 4.00],
    ]


@pytest.mark.parametrize("resize", [bicubic, bicubic_loops])
def test_bicubic_of_the_lecture(resize, device):
    output = resize(torch.tensor(SMALL, device=device), (4, 4))
    rounded = [[f"{value:.2f}" for value in row] for row in output[0, 0].tolist()]
    assert rounded == [
        ["0.68", "1.02", "1.56", "1.89"],
        ["1.35", "1.68", "2.23", "2.56"],
        ["2.44", "2.77", "3.32", "3.65"],
        ["3.11", "3.44", "3.98", "4.32"],
    ]


# --- equal to torch and to the loops


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_bed_of_nails_is_a_transposed_convolution_with_one_nail(scale, device):
    input = random(2, 1, 3, 5, device=device)
    nail = torch.zeros(1, 1, scale, scale, dtype=input.dtype, device=device)
    nail[0, 0, 0, 0] = 1
    theirs = partial(F.conv_transpose2d, weight=nail, stride=scale)
    assert_same(lambda x: bed_of_nails(x, scale), theirs, input, 0)
    assert_same(lambda x: bed_of_nails_loops(x, scale), theirs, input, 0)


@sizes
def test_nearest_equals_torch_and_loops(before, after, device):
    input = random(2, 3, *before, device=device)
    theirs = partial(F.interpolate, size=after, mode="nearest")
    assert_same(lambda x: nearest(x, after), theirs, input, 1e-12)
    assert_same(lambda x: nearest_loops(x, after), theirs, input, 1e-12)


def test_nearest_takes_torchs_pixel_for_every_pair_of_sizes():
    for before in range(1, 70):
        row = torch.arange(before).float()[None, None, None]
        for after in range(1, 70):
            expected = F.interpolate(row, (1, after), mode="nearest")
            assert torch.equal(nearest(row, (1, after)), expected), (before, after)


def test_nearest_rounds_as_torch_does_not_as_whole_numbers_do():
    row = torch.arange(26.0)[None, None, None]
    assert nearest(row, (1, 22))[0, 0, 0, 11] == 12  # 11 * 26 / 22 is 13


@corners
@sizes
def test_bilinear_equals_torch_and_loops(before, after, align_corners, device):
    input = random(2, 3, *before, device=device)
    theirs = partial(F.interpolate, size=after, mode="bilinear", align_corners=align_corners)
    for ours in (bilinear, bilinear_loops):
        assert_same(lambda x, ours=ours: ours(x, after, align_corners), theirs, input, 1e-12)


@corners
@sizes
def test_bicubic_equals_torch_and_loops(before, after, align_corners, device):
    input = random(2, 3, *before, device=device)
    theirs = partial(F.interpolate, size=after, mode="bicubic", align_corners=align_corners)
    for ours in (bicubic, bicubic_loops):
        assert_same(lambda x, ours=ours: ours(x, after, align_corners), theirs, input, 1e-12)


@corners
@pytest.mark.parametrize(("resize", "mode"), [(bilinear, "bilinear"), (bicubic, "bicubic")])
def test_resize_equals_torch_in_float32(resize, mode, align_corners, device):
    input = random(2, 5, 13, 17, dtype=torch.float32, device=device)
    theirs = partial(F.interpolate, size=(31, 20), mode=mode, align_corners=align_corners)
    assert_same(lambda x: resize(x, (31, 20), align_corners), theirs, input, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("resize", [bilinear, bicubic])
def test_resize_in_half_precision(resize, dtype, device):
    input = random(2, 3, 5, 7, dtype=dtype, device=device)
    output = resize(input, (8, 9))
    assert output.dtype == dtype
    tolerance = 20 * torch.finfo(dtype).eps
    assert_close(output.double(), resize(input.double(), (8, 9)), rtol=0, atol=tolerance)


@pytest.mark.parametrize("a", [-0.5, -1.0])
def test_bicubic_with_another_coefficient_equals_loops(a):
    input = random(1, 2, 4, 5)
    assert_same(
        lambda x: bicubic(x, (7, 3), a=a), lambda x: bicubic_loops(x, (7, 3), a=a), input, 1e-12
    )
    assert not torch.allclose(bicubic(input, (7, 3), a=a), bicubic(input, (7, 3)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_label_maps_are_copied_as_they_are(dtype):
    labels = coarse(1, 1, 3, 4).to(dtype)
    for output in (nearest(labels, (6, 8)), bed_of_nails(labels, 2)):
        assert output.dtype == dtype
        assert torch.equal(output[:, :, ::2, ::2], labels)


# --- the matrices


@corners
@pytest.mark.parametrize("kernel", [linear_kernel, cubic_kernel, partial(cubic_kernel, a=-0.5)])
@pytest.mark.parametrize(("before", "after"), [(2, 4), (1, 5), (5, 1), (7, 7), (9, 4), (4, 11)])
def test_matrix_equals_loops(before, after, kernel, align_corners):
    matrix = interpolation_matrix(before, after, kernel, align_corners)
    loops = interpolation_matrix_loops(before, after, kernel, align_corners)
    assert matrix.dtype == loops.dtype == torch.float64
    assert_close(matrix, loops, rtol=0, atol=1e-12)


def test_matrices_by_hand():
    half, corner = (interpolation_matrix(2, 3, linear_kernel, align) for align in (False, True))
    assert_close(half, torch.tensor([[1, 0], [0.5, 0.5], [0, 1]]).double())
    assert torch.equal(half, corner)
    assert interpolation_matrix(4, 2, linear_kernel).tolist() == [
        [0.5, 0.5, 0, 0],
        [0, 0, 0.5, 0.5],
    ]
    assert interpolation_matrix(4, 2, linear_kernel, True).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_the_matrices_resize_an_image():
    image = random(5, 7)
    rows = interpolation_matrix(5, 8, cubic_kernel)
    columns = interpolation_matrix(7, 4, cubic_kernel)
    assert_close(rows @ image @ columns.T, bicubic(image[None, None], (8, 4))[0, 0])


def test_the_gradient_is_the_transposed_matrix():
    image = random(1, 1, 4, 4).requires_grad_()
    upstream = random(1, 1, 8, 8, seed=1)
    bilinear(image, (8, 8)).backward(upstream)
    matrix = interpolation_matrix(4, 8, linear_kernel)
    assert_close(image.grad[0, 0], matrix.T @ upstream[0, 0] @ matrix)


def test_cubic_kernel_is_one_curve():
    d = torch.linspace(-2.5, 2.5, 501, dtype=torch.float64)
    for a in (-0.5, -0.75, -1.0):
        weights = cubic_kernel(d, a)
        assert weights.diff().abs().max() < 0.03  # no jump
        assert weights.diff().diff().abs().max() < 1e-3  # no kink
        assert torch.equal(weights[d.abs() >= 2], torch.zeros(102, dtype=torch.float64))
        whole = torch.arange(-3.0, 4.0, dtype=torch.float64)
        assert cubic_kernel(whole, a).tolist() == [0, 0, 0, 1, 0, 0, 0]
        slope = (cubic_kernel(1 + 1e-6 * d.sign(), a) - cubic_kernel(1 - 1e-6 * d.sign(), a))[-1]
        assert slope / 2e-6 == pytest.approx(a, abs=1e-4)


def test_minus_a_half_is_exact_on_parabolas_and_minus_three_quarters_is_not():
    centres = (torch.arange(40, dtype=torch.float64) + 0.5) / 2 - 0.5
    parabola, inside = torch.arange(20, dtype=torch.float64) ** 2, slice(4, -4)
    for a, exact in ((-0.5, True), (-0.75, False)):
        matrix = interpolation_matrix(20, 40, partial(cubic_kernel, a=a))
        assert torch.allclose((matrix @ parabola)[inside], centres[inside] ** 2) == exact


def test_only_minus_three_quarters_has_no_jump_in_the_second_derivative():
    h = 1e-3

    def second_derivative(d, a):
        points = torch.tensor([d - h, d, d + h], dtype=torch.float64)
        return (cubic_kernel(points, a).diff().diff() / h**2).item()

    for a, jump in ((-0.75, 0.0), (-0.5, 2.0), (-1.0, -2.0)):
        found = second_derivative(1 - h, a) - second_derivative(1 + h, a)
        assert found == pytest.approx(jump, abs=0.05)


def test_pillow_enlarges_with_minus_a_half():
    image = random(20, 20, dtype=torch.float32)
    pillow = Image.fromarray(image.numpy()).resize((40, 40), Image.Resampling.BICUBIC)
    pillow = torch.from_numpy(np.array(pillow))
    inside = slice(4, -4)  # at the border Pillow leaves pixels out
    for a, same in ((-0.5, True), (-0.75, False)):
        ours = bicubic(image[None, None], (40, 40), a=a)[0, 0]
        assert torch.allclose(ours[inside, inside], pillow[inside, inside], atol=1e-5) == same


def test_a_nan_spreads_here_and_stays_in_torch():
    image = torch.zeros(1, 2, 6, 6)
    image[0, 0, 2, 3] = torch.nan
    ours, theirs = bilinear(image, (12, 12)), F.interpolate(image, (12, 12), mode="bilinear")
    assert ours[0, 0].isnan().all() and not ours[0, 1].isnan().any()
    assert theirs[0, 0].isnan().sum() == 16


# --- gradients, layouts, nothing at all


OPERATORS = {
    "bed_of_nails": lambda x: bed_of_nails(x, 2),
    "nearest": lambda x: nearest(x, (7, 3)),
    "bilinear": lambda x: bilinear(x, (7, 3)),
    "bilinear, corners": lambda x: bilinear(x, (7, 3), True),
    "bicubic": lambda x: bicubic(x, (3, 7)),
    "bicubic, corners": lambda x: bicubic(x, (3, 7), True),
}
operators = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@operators
def test_gradient(operator):
    input = random(2, 1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(operator, input)
    assert torch.autograd.gradgradcheck(operator, input)


@operators
def test_layout_in_memory_does_not_matter(operator):
    input = random(2, 3, 4, 5)
    expected = output_and_gradient(operator, input)
    for name, laid_out in layouts(input).items():
        assert torch.equal(laid_out, input)
        for mine, kept in zip(output_and_gradient(operator, laid_out), expected):
            assert_close(mine, kept, msg=lambda words, name=name: f"{name}: {words}")


@pytest.mark.parametrize("operator", [nearest, bilinear, bicubic])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_stays_channels_last(operator, channels):
    last = random(2, channels, 4, 5).contiguous(memory_format=torch.channels_last)
    assert operator(last, (7, 3)).is_contiguous(memory_format=torch.channels_last)
    assert operator(last.contiguous(), (7, 3)).is_contiguous()


@operators
def test_input_stays_as_it_was_and_shares_no_memory(operator):
    input = random(2, 1, 4, 5)
    before = input.clone()
    operator(input).zero_()
    assert torch.equal(input, before)


@operators
def test_no_images(operator):
    empty = torch.zeros(0, 1, 4, 5).requires_grad_()
    output = operator(empty)
    assert output.shape == (0, *operator(torch.zeros(1, 1, 4, 5)).shape[1:])
    output.sum().backward()
    assert empty.grad.shape == empty.shape


@operators
def test_no_gradient_unless_asked_for(operator):
    assert not operator(random(1, 1, 4, 5)).requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@operators
def test_repeatable_on_cuda(operator, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it
    torch.use_deterministic_algorithms(True)  # torch's bilinear, bicubic and unpooling raise here
    try:
        input = random(2, 3, 4, 5, dtype=torch.float32, device="cuda")
        first, second = (output_and_gradient(operator, input) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, second))
    finally:
        torch.use_deterministic_algorithms(False)


# --- laws

booleans = st.booleans()
methods = st.sampled_from([bilinear, bicubic])


@law
@given(methods, images, side, side, booleans)
def test_law_resize_is_torchs(resize, image, height, width, align_corners):
    theirs = F.interpolate(
        image, (height, width), mode=resize.__name__, align_corners=align_corners
    )
    assert_close(resize(image, (height, width), align_corners), theirs)


@law
@given(images, side, side)
def test_law_nearest_is_torchs_and_invents_nothing(image, height, width):
    output = nearest(image, (height, width))
    assert torch.equal(output, F.interpolate(image, (height, width), mode="nearest"))
    assert set(output.flatten().tolist()) <= set(image.flatten().tolist())


@law
@given(methods, st.floats(-1e3, 1e3), side, side, side, booleans)
def test_law_a_flat_image_stays_flat(resize, value, before, height, width, align_corners):
    flat = torch.full((1, 1, before, before), value, dtype=torch.float64)
    output = resize(flat, (height, width), align_corners)
    assert_close(output, torch.full_like(output, value))


@law
@given(images, side, side, booleans)
def test_law_bilinear_stays_between_the_smallest_and_the_largest(image, height, width, align):
    output = bilinear(image, (height, width), align)
    assert image.min() - 1e-12 <= output.min() and output.max() <= image.max() + 1e-12


@law
@given(methods, images, booleans)
def test_law_the_same_size_is_the_same_image(resize, image, align_corners):
    assert torch.equal(resize(image, tuple(image.shape[2:]), align_corners), image)


@law
@given(methods, images, side, side, booleans)
def test_law_resizing_the_mirrored_image_mirrors_the_result(resize, image, height, width, align):
    size = (height, width)
    if 1 in size and align:  # a single pixel is then the first, not the middle one
        return
    assert_close(resize(image.flip(2, 3), size, align), resize(image, size, align).flip(2, 3))


@law
@given(images, st.integers(1, 4))
def test_law_nails_are_found_again(image, scale):
    output = bed_of_nails(image, scale)
    assert torch.equal(output[:, :, ::scale, ::scale], image)
    assert (output != 0).sum() == (image != 0).sum()


# --- bad input: a message that names the argument

good = torch.zeros(1, 2, 4, 5)
places = torch.zeros(1, 2, 4, 5, dtype=torch.int64)
IMAGE_FIRST = {
    "bed_of_nails": lambda x: bed_of_nails(x, 2),
    "nearest": lambda x: nearest(x, (2, 2)),
    "bilinear": lambda x: bilinear(x, (2, 2)),
    "bicubic": lambda x: bicubic(x, (2, 2)),
}
nan = float("nan")


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("call", IMAGE_FIRST.values(), ids=IMAGE_FIRST)
def test_bad_input(call):
    with pytest.raises(TypeError, match=r"^input: expected a torch.Tensor, got list$"):
        call([[[[0.0]]]])
    with pytest.raises(
        ValueError, match=r"^input: expected shape \[b, c, h, w\], got \[2, 4, 5\]$"
    ):
        call(good[0])
    with pytest.raises(ValueError, match=r"^input: expected at least one pixel, got .*0, 5\]$"):
        call(good[:, :, :0])


MISTAKES = {
    "labels, bilinear": (lambda: bilinear(places, (2, 2)), TypeError, "input: expected floating"),
    "labels, bicubic": (lambda: bicubic(places, (2, 2)), TypeError, "input: expected floating"),
    "scale 0": (
        lambda: bed_of_nails(good, 0),
        ValueError,
        "scale: expected a whole number of at least 1, got 0",
    ),
    "scale 1.5": (
        lambda: bed_of_nails(good, 1.5),
        TypeError,
        "scale: expected a whole number of at least 1, got 1.5",
    ),
    "matrix from 0": (
        lambda: interpolation_matrix(0, 2, linear_kernel),
        ValueError,
        "in_size: expected a whole number of at least 1, got 0",
    ),
    "matrix to 0": (
        lambda: interpolation_matrix(2, 0, linear_kernel),
        ValueError,
        "out_size: expected a whole number of at least 1, got 0",
    ),
}


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(("call", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_message(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(words)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("bad", [(0, 8), (8,), 8, None, (8.5, 8), (nan, 8)], ids=str)
def test_bad_size(bad):
    for name, call in (
        ("size", lambda: nearest(good, bad)),
        ("size", lambda: bilinear(good, bad)),
        ("size", lambda: bicubic(good, bad)),
    ):
        with pytest.raises(
            ValueError, match=rf"^{name}: expected \(height, width\) above zero, got"
        ):
            call()
