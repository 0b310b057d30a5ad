"""Regions of a feature map, cropped to one size: bilinear sampling, RoIPool and RoIAlign.

Positions here are those of the lecture's formula: f_ij, the value of the pixel in column i and row j, is at
x = i, y = j. (As a square that pixel reaches from i to i + 1 with its centre at i + 0.5; `aligned=True` of
`roi_align` is the step of half a pixel between the two.)
"""

import math
from itertools import product

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn import functional as F

from course_utils.core import (
    check_boxes,
    check_floating,
    check_same_device,
    check_shape,
    check_size,
)

# --- one point


def bilinear_sample_loops(
    features: Float[Tensor, "c h w"], x: Float[Tensor, " n"], y: Float[Tensor, " n"]
) -> Float[Tensor, "c n"]:
    """`bilinear_sample` written out: the lecture's sum over every pixel, most of them of weight 0."""
    height, width = features.shape[1:]
    samples = features.new_zeros(len(features), len(x))
    for n, (x_n, y_n) in enumerate(zip(x.tolist(), y.tolist())):
        for i, j in product(range(width), range(height)):
            weight = max(0, 1 - abs(x_n - i)) * max(0, 1 - abs(y_n - j))
            samples[:, n] += weight * features[:, j, i]
    return samples


def _two_nearest(position: Tensor) -> tuple[Tensor, Tensor]:
    """Along one axis: the pixels on both sides of each position, and their weights 1 - |position - pixel|."""
    lower = position.detach().floor()
    pixel = torch.stack([lower, lower + 1], dim=-1)
    return pixel, 1 - (position[..., None] - pixel).abs()


def bilinear_sample(
    features: Float[Tensor, "c h w"], x: Float[Tensor, " n"], y: Float[Tensor, " n"]
) -> Float[Tensor, "c n"]:
    """The feature map's value between pixels: the four pixels around a point, the nearer the heavier.

    f_xy = sum over i, j of f_ij max(0, 1 - |x - i|) max(0, 1 - |y - j|). It has a gradient in the features
    and in the point's position; rounding a position has none.

    Args:
        features: one feature map.
        x: columns of the points, in pixels; f_ij is at x = i.
        y: rows of the points, in pixels; f_ij is at y = j.

    Returns:
        One value a channel and point. Beyond the outermost pixels it fades to 0 within one pixel.

    Raises:
        TypeError: not tensors of floating-point numbers.
        ValueError: another shape, a different number of x and y, or different devices.

    Source: lecture, RoIAlign; Jaderberg et al., "Spatial Transformer Networks", 2015, equation 5.

    The lecture's point (6.5, 5.8) mixes f(6, 5), f(7, 5), f(6, 6), f(7, 6) by 0.1, 0.1, 0.4, 0.4:

    >>> features = torch.zeros(1, 8, 8)
    >>> features[0, 5:7, 6:8] = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    >>> bilinear_sample(features, torch.tensor([6.5]), torch.tensor([5.8]))
    tensor([[31.0000]])
    """
    check_shape("features", features, "c", "h", "w")
    check_shape("x", x, "n")
    check_shape("y", y, len(x))
    for name, tensor in (("features", features), ("x", x), ("y", y)):
        check_floating(name, tensor)
    check_same_device(features=features, x=x, y=y)
    height, width = features.shape[1:]
    columns, along = _two_nearest(x)  # [n, 2]
    rows, down = _two_nearest(y)
    along = along * ((columns >= 0) & (columns < width))
    down = down * ((rows >= 0) & (rows < height))
    columns, rows = columns.clamp(0, width - 1).long(), rows.clamp(0, height - 1).long()
    around = features[:, rows[:, :, None], columns[:, None, :]]  # [c, n, 2, 2]
    weight = (down[:, :, None] * along[:, None, :]).to(features.dtype)
    return (around * weight).sum(dim=(2, 3))


# --- what RoIPool and RoIAlign share


def _check_rois(
    input: Tensor,
    boxes: list[Tensor] | Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """The arguments in one form: each roi's image number, its corners on the feature map, (height, width)."""
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    check_size("input", tuple(input.shape[2:]))
    output_size = (output_size, output_size) if isinstance(output_size, int) else output_size
    check_size("output_size", output_size)
    if not (isinstance(spatial_scale, int | float) and 0 < spatial_scale < math.inf):
        raise ValueError(f"spatial_scale: expected a number above zero, got {spatial_scale}")
    if isinstance(boxes, list | tuple):
        if len(boxes) != len(input):
            raise ValueError(f"boxes: expected one tensor an image, {len(input)}, got {len(boxes)}")
        for image_boxes in boxes:
            check_shape("boxes", image_boxes, "n", 4)
            check_same_device(input=input, boxes=image_boxes)
        image = [n for n, image_boxes in enumerate(boxes) for _ in range(len(image_boxes))]
        image = torch.tensor(image, dtype=torch.int64, device=input.device)
        corners = torch.cat([input.new_zeros(0, 4), *boxes])
    else:
        check_shape("boxes", boxes, "k", 5)
        check_same_device(input=input, boxes=boxes)
        image, corners = boxes[:, 0].long(), boxes[:, 1:]
        wrong = (image != boxes[:, 0]) | (image < 0) | (image >= len(input))
        if wrong.any():
            row = boxes[wrong][0].tolist()
            raise ValueError(
                f"boxes: expected an image from 0 to {len(input) - 1} first, got {row}"
            )
    check_boxes("boxes", corners)
    # At least float32: float16 cannot count to 2049.
    corners = corners.detach().to(torch.promote_types(input.dtype, torch.float32))
    return image, corners * spatial_scale, output_size


def _like(input: Tensor, bins: Tensor, output_size: tuple[int, int]) -> Tensor:
    """Bins [k oh ow, c] as [k, c, oh, ow], of `input`'s type and laid out in memory as `input` is."""
    output = bins.to(input.dtype).unflatten(0, (-1, *output_size)).permute(0, 3, 1, 2)
    channels_last = input.is_contiguous(memory_format=torch.channels_last)
    return output if channels_last else output.contiguous()


# --- RoIPool


def _round(number: float) -> int:
    """To the nearest whole number, halves away from zero (Python's `round` takes them to the even one)."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def roi_pool_loops(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
) -> Float[Tensor, "k c oh ow"]:
    """`roi_pool` written out: snap one box to pixels, cut it into bins of pixels, take each bin's maximum."""
    image, corners, (rows, columns) = _check_rois(input, boxes, output_size, spatial_scale)
    height, width = input.shape[2:]
    output = input.new_zeros(len(corners), input.shape[1], rows, columns)
    for n, corner in enumerate(corners.tolist()):
        left, top, right, bottom = (_round(number) for number in corner)
        bin_width = max(right - left + 1, 1) / columns
        bin_height = max(bottom - top + 1, 1) / rows
        for i, j in product(range(rows), range(columns)):
            y1 = max(top + math.floor(i * bin_height), 0)
            y2 = min(top + math.ceil((i + 1) * bin_height), height)
            x1 = max(left + math.floor(j * bin_width), 0)
            x2 = min(left + math.ceil((j + 1) * bin_width), width)
            if y1 < y2 and x1 < x2:
                output[n, :, i, j] = input[image[n], :, y1:y2, x1:x2].amax(dim=(1, 2))
    return output


def _snap(low: Tensor, high: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """RoIPool along one axis: the first pixel of each bin and the number of its pixels, [k, bins] each."""
    whole = [edge.trunc() + edge.sign() * (edge.frac().abs() >= 0.5) for edge in (low, high)]
    start, stop = (edge[:, None] for edge in whole)
    bin_size = (stop - start + 1) / bins
    number = torch.arange(bins, device=low.device)
    first = (start + (number * bin_size).floor()).clamp(0, size)
    end = (start + ((number + 1) * bin_size).ceil()).clamp(0, size)
    return first.long(), (end - first).long()


def roi_pool(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
) -> Float[Tensor, "k c oh ow"]:
    """Crop features to one size: snap the box to whole pixels, split it, take the maximum of every part.

    Snapping is what moves the crop off the object: rounding the box alone shifts an edge by up to half a
    pixel of the feature map, which is 16 pixels of the image at stride 32. The gradient goes to the pixel
    that was the maximum (to the first one if there are several).

    Args:
        input: feature maps of a batch of images.
        boxes: one tensor of `x1, y1, x2, y2` an image; or one of `image, x1, y1, x2, y2`. In pixels of
            the image.
        output_size: (height, width) of the crops in bins; one number if they are square.
        spatial_scale: pixels of the feature map a pixel of the image, 1/16 at stride 16.

    Returns:
        One crop a box. A bin without a pixel is 0.

    Raises:
        TypeError: not tensors, or numbers of another kind.
        ValueError: another shape, a nan, swapped corners, a number of an image that is not there, sizes or a
            scale not above zero, or tensors on different devices.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.1; same as `torchvision.ops.roi_pool`, which takes
    swapped corners too. As there, a box from x1 to x2 is snapped to x2 - x1 + 1 pixels.

    >>> input = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_pool(input, [torch.tensor([[0.0, 0.0, 3.0, 3.0]])], 2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    image, corners, output_size = _check_rois(input, boxes, output_size, spatial_scale)
    height, width = input.shape[2:]
    x1, y1, x2, y2 = corners.unbind(dim=1)
    top, rows = _snap(y1, y2, output_size[0], height)  # [k, oh]
    left, columns = _snap(x1, x2, output_size[1], width)  # [k, ow]

    # All pixels of all bins, one bin after the other, each row by row.
    count = (rows[:, :, None] * columns[:, None, :]).flatten()  # [k oh ow]
    offset = count.cumsum(0) - count
    corner = (image[:, None] * height + top)[:, :, None] * width + left[:, None, :]
    bin = torch.arange(len(count), device=input.device).repeat_interleave(count)
    number = torch.arange(len(bin), device=input.device) - offset[bin]
    across = columns[:, None, :].expand(-1, output_size[0], -1).flatten()[bin]
    pixel = corner.flatten()[bin] + number // across * width + number % across

    rows = input.permute(0, 2, 3, 1).reshape(-1, input.shape[1]).contiguous()  # [b h w, c]
    # Only for a tensor that wants a gradient does torch tell which pixel was the maximum.
    wants_gradient = rows.detach().requires_grad_()
    _, _, _, best = torch.embedding_bag(wants_gradient, pixel, offset, mode=2)  # 2: maximum
    best = best.clamp(min=0).long()
    bins = torch.where(count[:, None] > 0, rows.gather(0, best), 0)
    return _like(input, bins, output_size)


# --- RoIAlign


def roi_align_loops(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Float[Tensor, "k c oh ow"]:
    """`roi_align` written out: one box, one bin, one sample at a time; a bin is the mean of its samples."""
    image, corners, (rows, columns) = _check_rois(input, boxes, output_size, spatial_scale)
    height, width = input.shape[2:]
    output = input.new_zeros(len(corners), input.shape[1], rows, columns)
    for n, (x1, y1, x2, y2) in enumerate(corners.tolist()):
        left, top = (x1 - 0.5, y1 - 0.5) if aligned else (x1, y1)
        box_width = x2 - x1 if aligned else max(x2 - x1, 1)
        box_height = y2 - y1 if aligned else max(y2 - y1, 1)
        across = sampling_ratio if sampling_ratio > 0 else math.ceil(box_width / columns)
        down = sampling_ratio if sampling_ratio > 0 else math.ceil(box_height / rows)
        for i, j, a, b in product(range(rows), range(columns), range(down), range(across)):
            y = top + (i + (a + 0.5) / down) * box_height / rows
            x = left + (j + (b + 0.5) / across) * box_width / columns
            if -1 <= y <= height and -1 <= x <= width:
                x = input.new_tensor([min(max(x, 0), width - 1)])
                y = input.new_tensor([min(max(y, 0), height - 1)])
                sample = bilinear_sample_loops(input[image[n]], x, y)[:, 0]
                output[n, :, i, j] += sample / (down * across)
    return output


def _axis_weights(
    start: Tensor, length: Tensor, bins: tuple[int, int], sampling_ratio: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """RoIAlign along x and y: the pixels that each bin mixes and their weights, [k, 2, bins, taps] each.

    Both axes at once, as many bins as the longer one has: for a few rois the number of steps is the cost.
    """
    bin_size = (length / length.new_tensor(bins))[..., None, None]  # [k, 2, 1, 1]
    last = length.new_tensor(size)[:, None, None] - 1
    grid = samples = sampling_ratio
    if sampling_ratio <= 0:  # Each roi has its own number of samples.
        grid = bin_size.ceil().clamp(min=1)
        samples = int(max(grid.flatten().tolist(), default=1))
    number = torch.arange(max(bins), device=start.device)[:, None]
    step = torch.arange(0.5, samples, dtype=start.dtype, device=start.device)
    bin_start = start[..., None, None] + number * bin_size
    sample = bin_start + step * bin_size / grid  # [k, 2, bins, samples]

    position = sample.clamp(min=0).minimum(last)
    inside = (sample - position).abs() <= 1
    if sampling_ratio <= 0:  # A roi without size has none.
        inside &= (step < grid) & (bin_size > 0)
    share = inside / grid
    reach = max((bin_size / grid).flatten().tolist(), default=0) * (samples - 1)
    taps = min(math.ceil(reach) + 2, max(size))
    if taps < 2 * samples:  # The samples lie close together: a bin mixes a run of pixels.
        pixel = position[..., :1].floor() + torch.arange(taps, device=start.device)
        hat = (1 - (pixel[..., None] - position[..., None, :]).abs()).clamp(min=0)
        weight = (hat * share[..., None, :]).sum(dim=-1)
    else:
        pixel, hat = _two_nearest(position)
        pixel, weight = pixel.flatten(3), (hat * share[..., None]).flatten(3)
    return pixel.minimum(last).int(), weight


def _pixel_rows(pixels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Maps [b, h, w, c] as rows [pixel, c] and where `index` finds its pixels in them.

    Maps that lie channel by channel in memory have to be copied. Where few pixels are wanted, only those are.
    """
    batch, height, width, channels = pixels.shape
    if pixels.is_contiguous() or index.numel() > 4 * batch * height * width:
        return pixels.reshape(-1, channels).contiguous(), index
    wanted = torch.zeros(batch * height * width, dtype=torch.bool, device=index.device)
    index = index.long()
    wanted[index] = True
    rows = pixels[wanted.view(batch, height, width)]
    place = wanted.cumsum(0, dtype=torch.int32) - 1
    return rows.contiguous(), place.take(index)


class _WeightedSums(torch.autograd.Function):
    """A sparse matrix times the pixels: bin = sum over taps of weight[bin, tap] pixel[index[bin, tap]].

    The gradient is the transposed matrix times the bins' gradient. Its entries are sorted by pixel, so
    that every pixel sums its own bins in a fixed order: no two threads add to one number, and the same
    input gives the same bits on every run.
    """

    @staticmethod
    def forward(ctx, input: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.shape = input.shape
        rows, index = _pixel_rows(input.permute(0, 2, 3, 1).to(weight.dtype), index)

        def crop(index: Tensor, weight: Tensor) -> Tensor:
            taps, shares = index.flatten(0, 2), weight.flatten(0, 2)  # [k oh ow, taps]
            bins = F.embedding_bag(taps, rows, mode="sum", per_sample_weights=shares)
            return bins.unflatten(0, index.shape[:3]).permute(0, 3, 1, 2)

        if input.is_contiguous(memory_format=torch.channels_last):
            return crop(index, weight).to(input.dtype)
        output = input.new_empty(len(index), input.shape[1], *index.shape[1:3])
        # A few crops at a time, so that on the CPU they are in its cache while they are turned.
        few = len(index) if input.is_cuda else max(1, 2**18 // math.prod(output.shape[1:]))
        for part, *taps in zip(*(tensor.split(few) for tensor in (output, index, weight))):
            part.copy_(crop(*taps))
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        index, weight = ctx.saved_tensors
        batch, channels, height, width = ctx.shape
        pixel, order = index.flatten().sort(stable=True)
        bin = (order // index.shape[3]).int()
        every = torch.arange(batch * height * width, dtype=torch.int32, device=index.device)
        rows = F.embedding_bag(
            bin,
            gradient.permute(0, 2, 3, 1).flatten(0, 2).to(weight.dtype).contiguous(),
            torch.searchsorted(pixel, every, out_int32=True),
            mode="sum",
            per_sample_weights=weight.flatten()[order],
        )
        rows = rows.to(gradient.dtype).view(batch, height, width, channels)
        return rows.permute(0, 3, 1, 2), None, None


def roi_align(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Float[Tensor, "k c oh ow"]:
    """Crop features to one size without snapping: sample every bin at regular points, take the mean.

    A sample mixes its four nearest pixels bilinearly, and a bin averages samples, so a bin is a weighted
    sum of pixels whose weights depend on the box alone. **RoIAlign is a sparse matrix of bilinear weights**:
    a row a bin, a column a pixel. Forward multiplies by the matrix, backward by its transpose. The weight of
    a pixel is the product of one along x and one along y.

    Args:
        input: feature maps of a batch of images.
        boxes: one tensor of `x1, y1, x2, y2` an image; or one of `image, x1, y1, x2, y2`. In pixels of
            the image.
        output_size: (height, width) of the crops in bins; one number if they are square.
        spatial_scale: pixels of the feature map a pixel of the image, 1/16 at stride 16.
        sampling_ratio: samples a bin along each axis; 0 or below: the bin's size in pixels, rounded up.
        aligned: False reads f_ij as the value at (i, j) and stretches boxes below one pixel to one: the form
            of the first papers' code. True puts it at the pixel's centre (i + 0.5, j + 0.5), as this course
            does everywhere, and keeps small boxes as they are.

    Returns:
        One crop a box, channels-last in memory if `input` is. Samples more than a pixel outside the map
        are 0; those less far out take the border's value.

    Raises:
        TypeError: not tensors, or numbers of another kind.
        ValueError: another shape, a nan, swapped corners, a number of an image that is not there, sizes or a
            scale not above zero, or tensors on different devices.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3; same as `torchvision.ops.roi_align`, which takes
    swapped corners too.

    A ramp comes out as a ramp, exactly, wherever the box lies:

    >>> input = torch.arange(8.0).expand(1, 1, 8, 8)
    >>> roi_align(input, [torch.tensor([[1.5, 2.0, 5.5, 6.0]])], 2, aligned=True)
    tensor([[[[2., 4.],
              [2., 4.]]]])
    """
    image, corners, output_size = _check_rois(input, boxes, output_size, spatial_scale)
    height, width = input.shape[2:]
    start, stop = (corners - 0.5 if aligned else corners).split(2, dim=1)
    length = stop - start if aligned else (stop - start).clamp(min=1)
    high, wide = output_size
    pixels, weights = _axis_weights(start, length, (wide, high), sampling_ratio, (width, height))
    (columns, rows), (along, down) = pixels.unbind(1), weights.unbind(1)
    rows = (image.int()[:, None, None] * height + rows[:, :high]) * width
    # A bin's taps are every row with every column: [k, oh, 1, taps] and [k, 1, ow, taps].
    taps = pixels.shape[3]
    tap = torch.arange(taps**2, device=input.device)
    rows, down = (axis[:, :high, None, tap // taps] for axis in (rows, down))
    columns, along = (axis[:, None, :wide, tap % taps] for axis in (columns, along))
    return _WeightedSums.apply(input, rows + columns, down * along)
