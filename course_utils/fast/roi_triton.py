"""RoIAlign on the GPU in Triton, forward and backward, without atomics.

RoIAlign is a sparse matrix: an output bin is a weighted sum of a few pixels. One (pixel, weight) pair is a
**tap**. A bin takes the mean of some samples, and a sample mixes the four pixels around it, so two by two
samples make 16 taps.

- **forward**: one program per bin adds up the bin's taps, `output[bin] += weight * pixels[pixel]`;
- **backward**: the transposed matrix. One program per pixel adds up the taps that read this pixel,
  `gradient[pixel] += weight * gradient_output[bin]`.

Taps come bin by bin, but the backward pass wants them pixel by pixel, so it sorts them by pixel, once. Then
every sum belongs to one program and has one order: no two programs ever write to the same place, and the
same input gives the same bits.

Both passes move whole rows: with the channels last in memory, the c channels of a pixel lie side by side,
and a program reads them in a few wide loads. With channels first they would lie h * w numbers apart.
"""

import inspect
import os
from types import SimpleNamespace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from course_utils.core import check_floating, check_same_device, check_shape, check_size

try:
    import triton
    import triton.language as tl
except ImportError:  # then the kernels stay plain functions that nobody calls
    triton, tl = None, SimpleNamespace(constexpr=int)

# A program works on a tile of 16 taps x up to 128 channels: 2048 numbers, 16 for each of its 128 threads.
TAPS = tl.constexpr(16)
MOST_CHANNELS = 128

# Triton reads this when it is imported: 1 runs the kernels in NumPy, on CPU tensors, slowly.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _jit(function):
    """triton.jit, on the function as it is written: the tests' type hook wraps every function."""
    return triton.jit(inspect.unwrap(function)) if triton else function


@_jit
def _taps_of(
    rois,
    samples,
    bin,
    step,
    images,
    height,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SCALE: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Pixels and weights [TAPS] of one bin's taps from number step * TAPS on; weight 0 past the last."""
    # Where the roi lies, in pixels of the feature map: five numbers, 20 bytes.
    roi = bin // (ROWS * COLUMNS)
    shift = 0.5 if ALIGNED else 0.0
    image = tl.load(rois + roi * 5).to(tl.int32)
    x1 = tl.load(rois + roi * 5 + 1) * SCALE - shift
    y1 = tl.load(rois + roi * 5 + 2) * SCALE - shift
    roi_width = tl.load(rois + roi * 5 + 3) * SCALE - shift - x1
    roi_height = tl.load(rois + roi * 5 + 4) * SCALE - shift - y1
    if not ALIGNED:
        roi_width = tl.where(roi_width < 1, 1.0, roi_width)
        roi_height = tl.where(roi_height < 1, 1.0, roi_height)
    bin_width = roi_width / COLUMNS
    bin_height = roi_height / ROWS

    # Four taps make a sample, and samples_y x samples_x samples lie evenly in the bin.
    samples_y = tl.load(samples + roi * 2)
    samples_x = tl.load(samples + roi * 2 + 1)
    tap = step * TAPS + tl.arange(0, TAPS)
    sample = tap // 4
    row = bin // COLUMNS % ROWS
    column = bin % COLUMNS
    y = y1 + row * bin_height + (sample // samples_x + 0.5) * bin_height / samples_y
    x = x1 + column * bin_width + (sample % samples_x + 0.5) * bin_width / samples_x

    # A sample more than a pixel outside the image counts as 0, one at its edge as the edge's pixel.
    known = (y == y) & (x == x) & (image >= 0) & (image < images)  # nan is not itself
    outside = (y < -1) | (y > height) | (x < -1) | (x > width)
    y = tl.minimum(tl.maximum(tl.where(known, y, 0.0), 0.0), height - 1.0)
    x = tl.minimum(tl.maximum(tl.where(known, x, 0.0), 0.0), width - 1.0)

    # The tap's pixel is one of the four around the sample; its weight falls from 1 to 0 within a pixel.
    pixel_y = y.to(tl.int32) + tap % 4 // 2
    pixel_x = x.to(tl.int32) + tap % 2
    weight = (1 - tl.abs(y - pixel_y)) * (1 - tl.abs(x - pixel_x)) / (samples_y * samples_x)
    weight = tl.where(outside | (sample >= samples_y * samples_x), 0.0, weight)

    # A row or column past the last has weight 0. What cannot be known is nan, and reads a pixel that exists.
    pixel_y = tl.minimum(pixel_y, height - 1)
    pixel_x = tl.minimum(pixel_x, width - 1)
    pixel = (tl.where(known, image, 0) * height + pixel_y) * width + pixel_x
    return pixel, tl.where(known, weight, float("nan"))


@_jit
def _forward_kernel(
    pixels,
    rois,
    samples,
    output,
    images,
    height,
    width,
    channels,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SCALE: tl.constexpr,
    ALIGNED: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """One program per (bin, block of channels): the weighted sum of the bin's pixels.

    In float32, 128 channels, 16 taps: reads 16 rows of 512 bytes, which mostly wait in the cache because
    neighbouring bins share them, does 16 * 128 multiply-adds, and writes 512 bytes.
    """
    bin = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    roi = bin // (ROWS * COLUMNS)
    taps = 4 * tl.load(samples + roi * 2) * tl.load(samples + roi * 2 + 1)

    total = tl.zeros([CHANNELS], rois.dtype.element_ty)
    step = 0
    while step * TAPS < taps:  # once, for two by two samples
        pixel, weight = _taps_of(
            rois, samples, bin, step, images, height, width, ROWS, COLUMNS, SCALE, ALIGNED
        )
        place = pixel[:, None].to(tl.int64) * channels + channel[None, :]  # [TAPS, CHANNELS]
        needed = (weight != 0)[:, None] & (channel < channels)[None, :]
        tile = tl.load(pixels + place, mask=needed, other=0.0)
        total += tl.sum(weight[:, None] * tile, axis=0)
        step += 1
    tl.store(output + bin.to(tl.int64) * channels + channel, total, mask=channel < channels)


@_jit
def _list_taps_kernel(
    rois,
    samples,
    starts,
    tap_pixel,
    tap_weight,
    tap_bin,
    images,
    height,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SCALE: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """One program per bin: write its taps into the list. 12 bytes a tap, so 192 for two by two samples."""
    bin = tl.program_id(0)
    roi = bin // (ROWS * COLUMNS)
    taps = 4 * tl.load(samples + roi * 2) * tl.load(samples + roi * 2 + 1)
    start = tl.load(starts + roi) + bin % (ROWS * COLUMNS) * taps

    step = 0
    while step * TAPS < taps:
        pixel, weight = _taps_of(
            rois, samples, bin, step, images, height, width, ROWS, COLUMNS, SCALE, ALIGNED
        )
        tap = step * TAPS + tl.arange(0, TAPS)
        # A tap of weight 0 belongs to a pixel past the last one, where the backward pass never looks.
        pixel = tl.where(weight != 0, pixel, images * height * width)
        tl.store(tap_pixel + start + tap, pixel, mask=tap < taps)
        tl.store(tap_weight + start + tap, weight, mask=tap < taps)
        tl.store(tap_bin + start + tap, bin, mask=tap < taps)
        step += 1


@_jit
def _backward_kernel(
    gradient_output,
    order,
    begins,
    tap_weight,
    tap_bin,
    gradient,
    channels,
    CHANNELS: tl.constexpr,
):
    """One program per (pixel, block of channels): the weighted sum of the bins that read the pixel.

    For each tap it reads 16 bytes of the list and, for 128 channels in float32, one row of 512 bytes. It
    writes 512 bytes, zeros if nobody read the pixel, so nothing has to be cleared before.
    """
    pixel = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.load(begins + pixel)  # this pixel's taps in sorted order: from here
    end = tl.load(begins + pixel + 1)  # to before the next pixel's

    total = tl.zeros([CHANNELS], tap_weight.dtype.element_ty)
    while place < end:
        places = place + tl.arange(0, TAPS)
        tap = tl.load(order + places, mask=places < end, other=0)
        bin = tl.load(tap_bin + tap)
        weight = tl.load(tap_weight + tap, mask=places < end, other=0.0)
        needed = (places < end)[:, None] & (channel < channels)[None, :]
        source = gradient_output + bin[:, None].to(tl.int64) * channels + channel[None, :]
        tile = tl.load(source, mask=needed, other=0.0)  # [TAPS, CHANNELS]
        total += tl.sum(weight[:, None] * tile, axis=0)
        place += TAPS
    tl.store(gradient + pixel.to(tl.int64) * channels + channel, total, mask=channel < channels)


def _channel_blocks(channels: int) -> tuple[int, int]:
    """How many blocks of channels there are, and how many channels are in one (a power of two)."""
    block = min(triton.next_power_of_2(channels), MOST_CHANNELS)
    return triton.cdiv(channels, block), block


def _count_samples(
    rois: Float[Tensor, "k 5"],
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Samples a bin of each roi along y and x: as asked, or one for every pixel begun; int32 `[k, 2]`.

    Outside the kernel, because ceil(14 / 7) has to be 2 and the GPU's quick division may miss by a bit.
    """
    if sampling_ratio > 0:
        return torch.full((len(rois), 2), sampling_ratio, dtype=torch.int32, device=rois.device)
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    width, height = (corners[:, 2:] - corners[:, :2]).clamp(min=0 if aligned else 1).unbind(dim=1)
    samples = torch.stack([height / output_size[0], width / output_size[1]], dim=1).ceil()
    return samples.nan_to_num(1, 1, 1).int()


class _RoIAlign(torch.autograd.Function):
    """The sparse matrix times the pixels, and its transpose times the gradient of the bins."""

    @staticmethod
    def forward(ctx, input, rois, output_size, spatial_scale, sampling_ratio, aligned):
        images, channels, height, width = input.shape
        rows, columns = output_size
        samples = _count_samples(rois, output_size, spatial_scale, sampling_ratio, aligned)
        ctx.save_for_backward(rois, samples)
        ctx.shape = images, height, width, channels
        ctx.constants = dict(ROWS=rows, COLUMNS=columns, SCALE=spatial_scale, ALIGNED=aligned)
        pixels = input.permute(0, 2, 3, 1).contiguous()  # copies nothing if channels-last already
        output = input.new_empty(len(rois), rows, columns, channels)
        if output.numel():
            blocks, block = _channel_blocks(channels)
            with torch.cuda.device_of(input):
                _forward_kernel[len(rois) * rows * columns, blocks](
                    pixels, rois, samples, output, *ctx.shape, **ctx.constants, CHANNELS=block
                )
        return output.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_output):
        rois, samples = ctx.saved_tensors
        images, height, width, channels = ctx.shape
        gradient = gradient_output.new_empty(ctx.shape)
        if gradient.numel():
            bins = ctx.constants["ROWS"] * ctx.constants["COLUMNS"]
            taps = samples.prod(dim=1) * (4 * bins)  # of each roi
            ends = taps.cumsum(dim=0)
            total = int(taps.sum())  # the one number that the CPU has to wait for
            tap_pixel = samples.new_empty(total)
            tap_weight = rois.new_empty(total)
            tap_bin = samples.new_empty(total)
            with torch.cuda.device_of(gradient):
                if len(rois):
                    _list_taps_kernel[(len(rois) * bins,)](
                        rois,
                        samples,
                        ends - taps,
                        tap_pixel,
                        tap_weight,
                        tap_bin,
                        images,
                        height,
                        width,
                        **ctx.constants,
                    )
                # stable: taps of one pixel stay in the order of the bins, the same in every run
                tap_pixel, order = tap_pixel.sort(stable=True)
                numbers = torch.arange(
                    images * height * width + 1, dtype=torch.int32, device=rois.device
                )
                begins = torch.searchsorted(tap_pixel, numbers)
                blocks, block = _channel_blocks(channels)
                _backward_kernel[images * height * width, blocks](
                    gradient_output.permute(0, 2, 3, 1).contiguous(),
                    order,
                    begins,
                    tap_weight,
                    tap_bin,
                    gradient,
                    channels,
                    CHANNELS=block,
                )
        return gradient.permute(0, 3, 1, 2), None, None, None, None, None


def _stack_rois(boxes: Tensor | list[Tensor] | tuple[Tensor, ...], input: Tensor) -> Tensor:
    """One checked `[k, 5]` tensor of image number and box, whichever way the boxes came."""
    if not isinstance(boxes, (list, tuple)):
        check_shape("boxes", boxes, "k", 5)
        check_floating("boxes", boxes)
        check_same_device(input=input, boxes=boxes)
        return boxes
    if len(boxes) != len(input):
        raise ValueError(f"boxes: expected a tensor for each image, {len(input)}, got {len(boxes)}")
    for image, rows in enumerate(boxes):
        name = f"boxes[{image}]"
        check_shape(name, rows, "k", 4)
        check_floating(name, rows)
        check_same_device(**{name: rows, "input": input})
    rois = [pad(rows, (1, 0), value=image) for image, rows in enumerate(boxes)]
    return torch.cat([input.new_empty(0, 5), *rois])


def roi_align(
    input: Float[Tensor, "b c h w"],
    boxes: Float[Tensor, "k 5"] | list[Tensor] | tuple[Tensor, ...],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Float[Tensor, "k c rows columns"]:
    """Cut a feature map's regions out as grids of one size, by bilinear samples, on a CUDA device.

    Nothing is rounded to whole pixels: each bin is the mean of samples between pixels. Forward and backward
    are sums in a fixed order, so the same input gives the same bits, run after run. Fastest with `input` in
    `torch.channels_last`, which is also how the output lies in memory.

    The boxes' values stay unread on the GPU, for the CPU would have to wait for them: an roi with a nan, or
    of an image that is not in the batch, gives nan.

    Args:
        input: features on a CUDA device; float16 and bfloat16 are summed in float32.
        boxes: `x1, y1, x2, y2` in the image's pixels: a tensor `[k, 4]` for each image, or one `[k, 5]`
            that begins with the image's number. They get no gradient.
        output_size: (rows, columns) of bins, or one number for both.
        spatial_scale: the feature map's size over the image's, such as 1 / 16.
        sampling_ratio: samples a bin along each axis; 0 or less for one per pixel begun.
        aligned: True lets a pixel's centre lie at half a pixel, as the course's conventions say. False is
            the older way: shifted by half a pixel, and no roi smaller than one pixel.

    Returns:
        Features of every roi, in the input's type.

    Raises:
        RuntimeError: Triton is not installed.
        TypeError: not tensors, or not of floating-point numbers.
        ValueError: another shape or number of tensors; not on CUDA, or on different devices; no pixels;
            `output_size` or `spatial_scale` not above zero; `sampling_ratio` not whole.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3; same as `torchvision.ops.roi_align`.

    >>> roi_align(torch.zeros(1, 8, 20, 20), torch.zeros(1, 5), (7, 7))
    Traceback (most recent call last):
    ...
    ValueError: input: expected a CUDA tensor, got one on cpu; course_utils.ops.roi.roi_align works there
    """
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    check_size("input", tuple(input.shape[2:]))
    output_size = (output_size, output_size) if isinstance(output_size, int) else output_size
    check_size("output_size", output_size)
    if not spatial_scale > 0:
        raise ValueError(f"spatial_scale: expected a number above zero, got {spatial_scale}")
    if sampling_ratio != int(sampling_ratio):
        raise ValueError(f"sampling_ratio: expected a whole number, got {sampling_ratio}")
    rois = _stack_rois(boxes, input)
    if not (input.is_cuda or _INTERPRETED):
        raise ValueError(
            f"input: expected a CUDA tensor, got one on {input.device}; "
            "course_utils.ops.roi.roi_align works there"
        )
    if triton is None:
        raise RuntimeError(
            "roi_align: this kernel needs Triton, which is not installed; "
            "course_utils.ops.roi.roi_align gives the same numbers without"
        )
    precise = torch.promote_types(input.dtype, torch.float32)
    rois = rois.detach().to(precise).contiguous()
    return _RoIAlign.apply(
        input, rois, tuple(output_size), float(spatial_scale), int(sampling_ratio), bool(aligned)
    )
