"""Regions of interest: bilinear sampling, and cropping a feature map to one size with RoIPool or RoIAlign.

Positions are those of the lecture's formula: f_ij, the value of the pixel in column i and row j, is at x = i,
y = j. As a square, that pixel reaches from i to i + 1 and has its centre at i + 0.5; `aligned=True` of
`roi_align` converts between the two by subtracting half a pixel.
"""

import math
from itertools import product

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_floating,
    check_rows,
    check_same_device,
    check_shape,
    check_size,
    check_whole,
)


def bilinear_sample_loops(
    features: Float[Tensor, "c h w"], x: Float[Tensor, " n"], y: Float[Tensor, " n"]
) -> Float[Tensor, "c n"]:
    """`bilinear_sample` written out: the lecture's sum over all pixels, most of which have weight 0."""
    height, width = features.shape[1:]
    samples = features.new_zeros(len(features), len(x))
    for n, (x_n, y_n) in enumerate(zip(x.tolist(), y.tolist())):
        for i, j in product(range(width), range(height)):
            weight = max(0, 1 - abs(x_n - i)) * max(0, 1 - abs(y_n - j))
            samples[:, n] += weight * features[:, j, i]
    return samples


def linear_weights(position: Float[Tensor, "*n"], size: int) -> Float[Tensor, "*n {size}"]:
    """The weight of each pixel in a bilinear sample, along one axis: max(0, 1 - |position - pixel|).

    Args:
        position: where to sample, in pixels.
        size: the number of pixels along this axis.

    Returns:
        For each position one weight per pixel; at most two of them are above 0.

    >>> linear_weights(torch.tensor([1.25, 3.5]), 4)
    tensor([[0.0000, 0.7500, 0.2500, 0.0000],
            [0.0000, 0.0000, 0.0000, 0.5000]])
    """
    pixel = torch.arange(size, dtype=position.dtype, device=position.device)
    return (1 - (position[..., None] - pixel).abs()).clamp(min=0)


def _check_points(features: Tensor, x: Tensor, y: Tensor) -> None:
    """Raise unless these are one feature map, and as many x as y."""
    check_shape("features", features, "c", "h", "w")
    check_shape("x", x, "n")
    check_shape("y", y, len(x))
    for name, tensor in (("features", features), ("x", x), ("y", y)):
        check_floating(name, tensor)
    check_same_device(features=features, x=x, y=y)


def bilinear_sample(
    features: Float[Tensor, "c h w"], x: Float[Tensor, " n"], y: Float[Tensor, " n"]
) -> Float[Tensor, "c n"]:
    """The value of a feature map between its pixels: a weighted mean of the four pixels around a point.

    f_xy = sum over i, j of f_ij max(0, 1 - |x - i|) max(0, 1 - |y - j|). It is differentiable in the features
    and in the position of the point, whereas rounding the position to a pixel has no useful gradient.

    Args:
        features: one feature map.
        x: columns of the points, in pixels; f_ij is at x = i.
        y: rows of the points, in pixels; f_ij is at y = j.

    Returns:
        One value per channel and point. Outside the map the values fall to 0 within one pixel.

    Source: lecture, RoIAlign; Jaderberg et al., "Spatial Transformer Networks", 2015, equation 5.

    The lecture's point (6.5, 5.8) mixes f(6, 5), f(7, 5), f(6, 6), f(7, 6) by 0.1, 0.1, 0.4, 0.4:

    >>> features = torch.zeros(1, 8, 8)
    >>> features[0, 5:7, 6:8] = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    >>> bilinear_sample(features, torch.tensor([6.5]), torch.tensor([5.8]))
    tensor([[31.0000]])
    """
    _check_points(features, x, y)
    columns = linear_weights(x, features.shape[2]).to(features.dtype)  # [n, w]
    rows = linear_weights(y, features.shape[1]).to(features.dtype)  # [n, h]
    return torch.einsum("nh,chw,nw->cn", rows, features, columns)


def check_rois(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = -1,
) -> tuple[Int64[Tensor, " k"], Float[Tensor, "k 4"], tuple[int, int]]:
    """Check the arguments of `roi_pool` and `roi_align`, and bring them into one form.

    Args:
        input: as in `roi_pool`.
        boxes: as in `roi_pool`.
        output_size: as in `roi_pool`.
        spatial_scale: as in `roi_pool`.
        sampling_ratio: as in `roi_align`.

    Returns:
        For each roi the index of its image and its corners in pixels of the feature map (in float32 at least,
        as float16 cannot represent 2049), and the (height, width) of the crops.

    >>> check_rois(torch.zeros(1, 3, 8, 8), [torch.tensor([[16, 32, 64, 48]])], 7, 1 / 16)
    (tensor([0]), tensor([[1., 2., 4., 3.]]), (7, 7))
    """
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    check_size("input", tuple(input.shape[2:]))
    output_size = (output_size, output_size) if isinstance(output_size, int) else output_size
    check_size("output_size", output_size)
    if not (isinstance(spatial_scale, int | float) and 0 < spatial_scale < math.inf):
        raise ValueError(f"spatial_scale: expected a number above zero, got {spatial_scale}")
    check_whole("sampling_ratio", sampling_ratio, least=-1)
    images = len(input)
    if isinstance(boxes, list | tuple):
        if len(boxes) != images:
            raise ValueError(f"boxes: expected one tensor per image, {images}, got {len(boxes)}")
        for image_boxes in boxes:
            check_shape("boxes", image_boxes, "n", 4)
            check_same_device(input=input, boxes=image_boxes)
        counts = torch.tensor([len(image_boxes) for image_boxes in boxes], dtype=torch.int64)
        image = torch.arange(images).repeat_interleave(counts).to(input.device)
        corners = torch.cat([input.new_zeros(0, 4), *boxes])
    else:
        check_shape("boxes", boxes, "k", 5)
        check_same_device(input=input, boxes=boxes)
        image, corners = boxes[:, 0].long(), boxes[:, 1:]
        known = (image == boxes[:, 0]) & (image >= 0) & (image < images)
        check_rows("boxes", boxes, known, f"the index of an image, 0 to {images - 1}, first")
    check_boxes("boxes", corners)
    corners = corners.detach().to(torch.promote_types(input.dtype, torch.float32))
    return image, corners * spatial_scale, tuple(output_size)


def _round(number: float) -> int:
    """Round to the nearest integer, halves away from zero (Python's `round` takes them to the even one)."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number))


def roi_pool_loops(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
) -> Float[Tensor, "k c oh ow"]:
    """`roi_pool` written out: round one box to pixels, divide it into bins, take each bin's maximum."""
    image, corners, (rows, columns) = check_rois(input, boxes, output_size, spatial_scale)
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


def snap_to_bins(
    low: Float[Tensor, " k"], high: Float[Tensor, " k"], bins: int, size: int
) -> tuple[Int64[Tensor, "k {bins}"], Int64[Tensor, "k {bins}"]]:
    """RoIPool along one axis: round both edges of a box to pixels, and divide what lies between into bins.

    Args:
        low: left or upper edges of the boxes, in pixels of the feature map.
        high: their right or lower edges.
        bins: the number of bins.
        size: the number of pixels of the feature map along this axis.

    Returns:
        The first pixel of each bin, and the first one behind it.

    >>> snap_to_bins(torch.tensor([5.35]), torch.tensor([9.75]), 2, 15)
    (tensor([[5, 8]]), tensor([[ 8, 11]]))
    """
    whole = [edge.trunc() + edge.sign() * (edge.frac().abs() >= 0.5) for edge in (low, high)]
    start, last = (edge[:, None] for edge in whole)
    bin_size = (last - start + 1) / bins
    number = torch.arange(bins, device=low.device)
    first = start + (number * bin_size).floor()
    end = start + ((number + 1) * bin_size).ceil()
    return first.clamp(0, size).long(), end.clamp(0, size).long()


def roi_pool(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
) -> Float[Tensor, "k c oh ow"]:
    """RoIPool: crop features to one size by rounding the box to pixels and taking the maximum of each bin.

    Rounding moves the crop off the object, by up to half a pixel of the feature map per edge: 16 pixels of
    the image at stride 32. The gradient goes to the pixel that was the maximum (to the first one of several).

    Args:
        input: feature maps of a batch of images.
        boxes: one tensor of `x1, y1, x2, y2` per image, or one tensor of `image, x1, y1, x2, y2`, in pixels
            of the image.
        output_size: (height, width) of the crops in bins; one number if they are square.
        spatial_scale: the size of the feature map divided by that of the image, 1/16 at stride 16.

    Returns:
        One crop per box. A bin without pixels is 0.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.1; same as `torchvision.ops.roi_pool`, which also
    takes swapped corners. Both snap a box from x1 to x2 to x2 - x1 + 1 pixels.

    >>> input = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> roi_pool(input, [torch.tensor([[0.0, 0.0, 3.0, 3.0]])], 2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    image, corners, (rows, columns) = check_rois(input, boxes, output_size, spatial_scale)
    height, width = input.shape[2:]
    x1, y1, x2, y2 = corners.unbind(dim=1)
    top, bottom = snap_to_bins(y1, y2, rows, height)  # [k, oh]
    left, right = snap_to_bins(x1, x2, columns, width)  # [k, ow]
    highest, widest = (int(max([1, *n.flatten().tolist()])) for n in (bottom - top, right - left))
    y = top[..., None] + torch.arange(highest, device=input.device)  # [k, oh, ys]
    x = left[..., None] + torch.arange(widest, device=input.device)  # [k, ow, xs]
    in_bin = (y < bottom[..., None])[:, :, None, :, None] & (x < right[..., None])[:, None, :, None]
    y, x = y.clamp(max=height - 1)[:, :, None, :, None], x.clamp(max=width - 1)[:, None, :, None]
    pixels = input[image[:, None, None, None, None], :, y, x]  # [k, oh, ow, ys, xs, c]
    pixels = torch.where(in_bin[..., None], pixels, -torch.inf)
    maxima = pixels.flatten(3, 4).max(dim=3).values  # [k, oh, ow, c]
    return torch.where(in_bin.any(dim=(3, 4))[..., None], maxima, 0).permute(0, 3, 1, 2)


def roi_align_loops(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Float[Tensor, "k c oh ow"]:
    """`roi_align` written out: one box, one bin, one sample at a time; a bin is the mean of its samples."""
    image, corners, bins = check_rois(input, boxes, output_size, spatial_scale, sampling_ratio)
    (rows, columns), (height, width) = bins, input.shape[2:]
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


def sampling_matrix(
    low: Float[Tensor, " k"],
    high: Float[Tensor, " k"],
    bins: int,
    size: int,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Float[Tensor, "k {bins} {size}"]:
    """RoIAlign along one axis: the weight of each pixel in each bin, the mean over the bin's samples.

    Args:
        low: left or upper edges of the boxes, in pixels of the feature map.
        high: their right or lower edges.
        bins: the number of bins.
        size: the number of pixels of the feature map along this axis.
        sampling_ratio: as in `roi_align`.
        aligned: as in `roi_align`.

    Returns:
        One matrix per box. Its rows sum to 1, unless samples lie outside the feature map.

    >>> sampling_matrix(torch.tensor([1.0]), torch.tensor([3.0]), 2, 4)
    tensor([[[0.0000, 0.5000, 0.5000, 0.0000],
             [0.0000, 0.0000, 0.5000, 0.5000]]])
    """
    start = low - 0.5 if aligned else low
    length = high - low if aligned else (high - low).clamp(min=1)
    bin_size = (length / bins)[:, None, None]
    samples = bin_size.ceil() if sampling_ratio <= 0 else torch.full_like(bin_size, sampling_ratio)
    number = torch.arange(max(samples.flatten().tolist(), default=0)).to(low)
    bin_start = start[:, None, None] + torch.arange(bins).to(low)[:, None] * bin_size
    position = bin_start + (number + 0.5) * bin_size / samples  # [k, bins, samples]
    counts = (number < samples) & (position >= -1) & (position <= size)
    weights = linear_weights(position.clamp(0, size - 1), size)  # [k, bins, samples, size]
    return torch.where(counts[..., None], weights, 0).sum(dim=2) / samples.clamp(min=1)


def roi_align(
    input: Float[Tensor, "b c h w"],
    boxes: list[Real[Tensor, "_ 4"]] | Real[Tensor, "k 5"],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Float[Tensor, "k c oh ow"]:
    """RoIAlign: crop features to one size without rounding, as the mean of bilinear samples in each bin.

    A sample is a weighted mean of four pixels and a bin is a mean of samples, so a bin is a weighted sum of
    pixels, whose weights depend only on the box: **RoIAlign is a matrix of bilinear weights**, with a row per
    bin and a column per pixel. Its backward pass is the transposed matrix. The weight of a pixel is the
    product of one for its row and one for its column.

    Args:
        input: feature maps of a batch of images.
        boxes: one tensor of `x1, y1, x2, y2` per image, or one tensor of `image, x1, y1, x2, y2`, in pixels
            of the image.
        output_size: (height, width) of the crops in bins; one number if they are square.
        spatial_scale: the size of the feature map divided by that of the image, 1/16 at stride 16.
        sampling_ratio: samples per bin along each axis; -1 or 0: the size of a bin in pixels, rounded up.
        aligned: False takes f_ij to be at (i, j) and enlarges boxes below one pixel to one, as the first
            papers' code did. True takes it to be at the pixel's centre (i + 0.5, j + 0.5), as everywhere in
            this course, and keeps small boxes as they are.

    Returns:
        One crop per box. A sample more than one pixel outside the feature map is 0; one that is less far
        outside takes the value at the border.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3; same as `torchvision.ops.roi_align`, which also
    takes swapped corners.

    A linear ramp stays linear, wherever the box lies:

    >>> input = torch.arange(8.0).expand(1, 1, 8, 8)
    >>> roi_align(input, [torch.tensor([[1.5, 2.0, 5.5, 6.0]])], 2, aligned=True)
    tensor([[[[2., 4.],
              [2., 4.]]]])
    """
    image, corners, bins = check_rois(input, boxes, output_size, spatial_scale, sampling_ratio)
    (rows, columns), (height, width) = bins, input.shape[2:]
    x1, y1, x2, y2 = corners.unbind(dim=1)
    down = sampling_matrix(y1, y2, rows, height, sampling_ratio, aligned)[:, None]  # [k, 1, oh, h]
    across = sampling_matrix(x1, x2, columns, width, sampling_ratio, aligned)[:, None]
    crops = down @ input[image].to(down.dtype) @ across.mT  # [k, c, oh, ow]
    return crops.to(input.dtype)
