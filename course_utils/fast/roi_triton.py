"""RoIAlign on the GPU in Triton, forward and backward, without atomics.

RoIAlign is a product with a sparse matrix: a bin is a weighted sum of a few pixels. One (pixel, weight) pair
is a **tap**. A bin is the mean of its samples, and a sample mixes the four pixels around it, so two by two
samples make 16 taps.

- **forward**: one program per bin adds up the bin's taps, `output[bin] += weight * pixels[pixel]`;
- **backward**: the transposed matrix. One program per pixel adds up the taps of this pixel,
  `gradient[pixel] += weight * gradient_output[bin]`.

The taps are listed bin by bin, but the backward pass needs them pixel by pixel, so it sorts them by pixel,
once. Then every sum belongs to one program and has one order: no two programs write to the same address, and
the same input gives the same bits.

Both passes move whole rows: with the channels last in memory, the c channels of a pixel are contiguous, and a
program loads them in a few wide loads. With the channels first they would be h * w numbers apart.
"""

import inspect
import os
from types import SimpleNamespace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

try:
    import triton
    import triton.language as tl
except ImportError:  # then the kernels stay plain functions that nobody calls
    triton, tl = None, SimpleNamespace(constexpr=int)

# A program works on a tile of 16 taps x up to 128 channels: 2048 numbers, 16 for each of its 128 threads.
TAPS = tl.constexpr(16)
MOST_CHANNELS = 128

# The types of numbers that the kernels know.
TYPES = torch.float16, torch.bfloat16, torch.float32, torch.float64

# Triton looks at this variable when it is imported: 1 runs the kernels in NumPy, on CPU tensors, slowly.
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
    ALIGNED: tl.constexpr,
):
    """Pixels and weights [TAPS] of one bin's taps from number step * TAPS on; weight 0 past the last."""
    # The roi: the index of its image and its corners, in pixels of the feature map.
    roi = bin // (ROWS * COLUMNS)
    shift = 0.5 if ALIGNED else 0.0
    image = tl.load(rois + roi * 5).to(tl.int32)
    x1 = tl.load(rois + roi * 5 + 1) - shift
    y1 = tl.load(rois + roi * 5 + 2) - shift
    roi_width = tl.load(rois + roi * 5 + 3) - shift - x1
    roi_height = tl.load(rois + roi * 5 + 4) - shift - y1
    if not ALIGNED:
        roi_width = tl.where(roi_width < 1, 1.0, roi_width)
        roi_height = tl.where(roi_height < 1, 1.0, roi_height)
    bin_width = roi_width / COLUMNS
    bin_height = roi_height / ROWS

    # A sample has four taps, and a bin has samples_y x samples_x samples at regular distances.
    samples_y = tl.load(samples + roi * 2)
    samples_x = tl.load(samples + roi * 2 + 1)
    tap = step * TAPS + tl.arange(0, TAPS)
    sample = tap // 4
    row = bin // COLUMNS % ROWS
    column = bin % COLUMNS
    y = y1 + row * bin_height + (sample // samples_x + 0.5) * bin_height / samples_y
    x = x1 + column * bin_width + (sample % samples_x + 0.5) * bin_width / samples_x

    # A sample more than one pixel outside the map is 0; one less far outside takes the value at the border.
    known = (y == y) & (x == x) & (image >= 0) & (image < images)  # NaN is not equal to itself
    outside = (y < -1) | (y > height) | (x < -1) | (x > width)
    y = tl.minimum(tl.maximum(tl.where(known, y, 0.0), 0.0), height - 1.0)
    x = tl.minimum(tl.maximum(tl.where(known, x, 0.0), 0.0), width - 1.0)

    # The tap's pixel is one of the four around the sample; its weight falls from 1 to 0 within a pixel.
    pixel_y = y.to(tl.int32) + tap % 4 // 2
    pixel_x = x.to(tl.int32) + tap % 2
    weight = (1 - tl.abs(y - pixel_y)) * (1 - tl.abs(x - pixel_x)) / (samples_y * samples_x)
    weight = tl.where(outside | (sample >= samples_y * samples_x), 0.0, weight)

    # A row or column past the last has weight 0. The rest must load a pixel that exists, and is NaN where the
    # position or the image is unknown.
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
    ALIGNED: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """One program per (bin, block of channels): the weighted sum of the bin's pixels.

    With 128 channels in float32 and 16 taps it loads 16 rows of 512 bytes, most of which are in the cache
    because neighbouring bins share them, performs 16 * 128 multiply-adds, and stores 512 bytes.
    """
    bin = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    roi = bin // (ROWS * COLUMNS)
    taps = 4 * tl.load(samples + roi * 2) * tl.load(samples + roi * 2 + 1)

    total = tl.zeros([CHANNELS], rois.dtype.element_ty)
    step = 0
    while step * TAPS < taps:  # once, for two by two samples
        pixel, weight = _taps_of(
            rois, samples, bin, step, images, height, width, ROWS, COLUMNS, ALIGNED
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
    ALIGNED: tl.constexpr,
):
    """One program per bin: write its taps into the list, 12 bytes per tap, 192 for two by two samples."""
    bin = tl.program_id(0)
    roi = bin // (ROWS * COLUMNS)
    taps = 4 * tl.load(samples + roi * 2) * tl.load(samples + roi * 2 + 1)
    start = tl.load(starts + roi) + bin % (ROWS * COLUMNS) * taps

    step = 0
    while step * TAPS < taps:
        pixel, weight = _taps_of(
            rois, samples, bin, step, images, height, width, ROWS, COLUMNS, ALIGNED
        )
        tap = step * TAPS + tl.arange(0, TAPS)
        # Taps of weight 0 are assigned to a pixel past the last one, which the backward pass ignores.
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
    """One program per (pixel, block of channels): the weighted sum of the bins that this pixel is part of.

    For each tap it loads 16 bytes of the list and, for 128 channels in float32, one row of 512 bytes. It
    stores 512 bytes, zeros if the pixel is part of no bin, so the gradient need not be initialised.
    """
    pixel = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    place = tl.load(begins + pixel)  # this pixel's taps in sorted order begin here
    end = tl.load(begins + pixel + 1)  # and end before those of the next pixel

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
    corners: Float[Tensor, "k 4"], output_size: tuple[int, int], sampling_ratio: int, aligned: bool
) -> Tensor:
    """Samples per bin of each roi along y and x, int32 `[k, 2]`: as given, or the bin's size rounded up.

    Outside the kernel, because ceil(14 / 7) must be 2, and the GPU's fast division may differ by one bit.
    """
    if sampling_ratio > 0:
        return torch.full(
            (len(corners), 2), sampling_ratio, dtype=torch.int32, device=corners.device
        )
    shifted = corners - (0.5 if aligned else 0.0)
    width, height = (shifted[:, 2:] - shifted[:, :2]).clamp(min=0 if aligned else 1).unbind(dim=1)
    samples = torch.stack([height / output_size[0], width / output_size[1]], dim=1).ceil()
    return samples.nan_to_num(1, 1, 1).int()


class _RoIAlign(torch.autograd.Function):
    """The sparse matrix times the pixels, and its transpose times the gradient of the bins."""

    @staticmethod
    def forward(ctx, input, rois, output_size, sampling_ratio, aligned):
        images, channels, height, width = input.shape
        rows, columns = output_size
        samples = _count_samples(rois[:, 1:], output_size, sampling_ratio, aligned)
        ctx.save_for_backward(rois, samples)
        ctx.shape = images, height, width, channels
        ctx.constants = dict(ROWS=rows, COLUMNS=columns, ALIGNED=aligned)
        pixels = input.permute(0, 2, 3, 1).contiguous()  # no copy if it is channels-last already
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
            total = int(taps.sum())  # the only value for which the CPU waits
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
                # Stable, so that the taps of a pixel stay in the order of the bins, in every run.
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
        return gradient.permute(0, 3, 1, 2), None, None, None, None


def can_run(input: Float[Tensor, "..."]) -> bool:
    """Whether the kernels can run: Triton is installed, the tensor is on CUDA, and they know its type.

    Args:
        input: the feature maps.

    >>> can_run(torch.zeros(1, 8, 20, 20, dtype=torch.float8_e4m3fn))
    False
    """
    return triton is not None and (input.is_cuda or _INTERPRETED) and input.dtype in TYPES


def crop_rois(
    input: Float[Tensor, "b c h w"],
    image: Int64[Tensor, " k"],
    corners: Float[Tensor, "k 4"],
    output_size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> Float[Tensor, "k c oh ow"]:
    """RoIAlign with arguments that have been checked; `course_utils.fast.roi.roi_align` calls it.

    Forward and backward are sums in a fixed order, so the same input gives the same bits. The result is
    channels-last in memory, and an input that is channels-last need not be copied. float16 and bfloat16 are
    added up in float32. A roi with a NaN, or of an image that is not in the batch, gives NaN.

    Args:
        input: feature maps for which `can_run` is true.
        image: the index of each roi's image.
        corners: `x1, y1, x2, y2` in pixels of the feature map, at least float32. They get no gradient.
        output_size: (height, width) of the crops in bins.
        sampling_ratio: samples per bin along each axis; 0 or below: the size of a bin in pixels, rounded up.
        aligned: as in `roi_align`.

    Returns:
        One crop per roi, of the input's type.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3.
    """
    rois = torch.cat([image[:, None].to(corners.dtype), corners], dim=1)
    return _RoIAlign.apply(input, rois, output_size, sampling_ratio, aligned)
