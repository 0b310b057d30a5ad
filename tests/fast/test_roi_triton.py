"""course_utils.fast.roi_triton = torchvision, forward and backward, to the same bits in every run.

Where there is no GPU, `test_in_the_interpreter` runs the tests below in a separate process, in which Triton
runs the kernels in NumPy: a few milliseconds per program, so the sizes are tiny.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision import ops as tv

from course_utils.fast import roi_triton as module
from course_utils.fast.roi import roi_align

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TRITON = importlib.util.find_spec("triton") is not None
HAS_GPU = HAS_TRITON and torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if HAS_GPU else "cpu"

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
gpu = pytest.mark.skipif(not HAS_GPU, reason="no GPU with Triton here")
kernel = pytest.mark.skipif(
    not (HAS_GPU or INTERPRETED),
    reason="no GPU with Triton here; test_in_the_interpreter runs it in another process",
)

# image, x1, y1, x2, y2 for a map of 4 x 5 at scale 0.75, which is 5.33 x 6.67 in the boxes' pixels
ROIS = {
    "inside": [0, 1.25, 1.5, 4.5, 3.75],
    "all of the other image, and more": [1, -0.5, -0.25, 7.25, 5.75],
    "partly outside": [1, -3.5, -2.25, 3.5, 3],
    "partly outside, far corner": [0, 4.25, 3.5, 9, 8.25],
    "wholly outside": [0, 20, 20, 30, 30],
    "wholly outside, before": [1, -9, 1, -6, 5],
    "no size": [1, 2.25, 2.5, 2.25, 2.5],
    "no width": [0, 3.25, 1, 3.25, 5],
}


def features(*shape, dtype=torch.float32):
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return numbers.to(DEVICE, dtype).requires_grad_()


def forward_and_gradient(function, input, *arguments):
    output = function(input, *arguments)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(output.shape, generator=generator).to(output)
    return output.detach(), torch.autograd.grad(output, input, weights)[0]


def assert_equals_torchvision(input, boxes, *arguments, tolerance=1e-5):
    found = forward_and_gradient(roi_align, input, boxes, *arguments)
    wanted = forward_and_gradient(tv.roi_align, input, boxes, *arguments)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the other process")
def test_in_the_interpreter():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            __file__,
            "-q",
            "-k",
            "test_kernel",
            "-p",
            "no:cacheprovider",
        ],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout


@kernel
def test_kernel_is_what_roi_align_runs(monkeypatch):
    calls = []
    crop = module.crop_rois
    monkeypatch.setattr(module, "crop_rois", lambda *given: calls.append(given) or crop(*given))
    roi_align(features(1, 1, 2, 2), torch.zeros(1, 5, device=DEVICE), 1)
    assert len(calls) == 1


@kernel
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [1, 2, -1])
def test_kernel_equals_torchvision(aligned, sampling_ratio):
    rois = torch.tensor(list(ROIS.values()), device=DEVICE)
    assert_equals_torchvision(features(2, 3, 4, 5), rois, 2, 0.75, sampling_ratio, aligned)


@kernel
def test_kernel_at_the_very_edge():
    # one sample, in the middle: a pixel outside the map of 3 x 4, which still counts, and a bit further
    middles = [(-1, 1), (4, 1), (1, -1), (1, 3), (-1.125, 1), (4.125, 1), (1, -1.125), (1, 3.125)]
    rois = torch.tensor([[0, x - 1, y - 1, x + 1, y + 1] for x, y in middles], device=DEVICE)
    assert_equals_torchvision(features(1, 1, 3, 4), rois, 1, 1.0, 1, False)


@kernel
def test_kernel_with_a_tensor_of_boxes_for_each_image():
    boxes = [torch.tensor(rows, device=DEVICE) for rows in ([[0.5, 1, 3, 2]], [[1.25, 0, 2, 3]])]
    assert_equals_torchvision(features(2, 1, 3, 4), boxes, (3, 1), 1.0, 2, True)


@kernel
def test_kernel_with_more_channels_than_a_block():
    rois = torch.tensor([[0.0, 0.25, 0.5, 1.75, 1.5]], device=DEVICE)
    assert_equals_torchvision(features(1, 130, 2, 2), rois, (1, 2), 1.0, 2, True)


@kernel
def test_kernel_with_one_pixel_and_one_channel():
    rois = torch.tensor([[0.0, -0.25, 0, 1.5, 1]], device=DEVICE)
    assert_equals_torchvision(features(1, 1, 1, 1), rois, 1, 1.0, -1, True)


@kernel
def test_kernel_in_double_precision():
    rois = torch.tensor([[0, 1.1, 2.3, 7.9, 6.7]], dtype=torch.float64, device=DEVICE)
    input = features(1, 1, 3, 3, dtype=torch.float64)
    assert_equals_torchvision(input, rois, 2, 0.3, 2, True, tolerance=1e-12)


@kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_kernel_sums_half_precision_in_float32(dtype):
    rois = torch.tensor([[0, 0.25, 0.5, 3.5, 2.75]], device=DEVICE)
    input = features(1, 3, 3, 4, dtype=dtype)
    output, gradient = forward_and_gradient(roi_align, input, rois, 2, 1.0, 2, True)
    exact = input.detach().float().requires_grad_()
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    wanted = tv.roi_align(exact, rois, 2, 1.0, 2, True)
    wanted_gradient = torch.autograd.grad(wanted, exact, weights.float())[0]
    assert output.dtype == gradient.dtype == dtype
    # one rounding, at the end: to the nearest on a GPU, down in the interpreter for bfloat16
    once = torch.finfo(dtype).eps * (1.01 if INTERPRETED else 0.51)
    torch.testing.assert_close(output.float(), wanted, rtol=once, atol=1e-5)
    torch.testing.assert_close(gradient.float(), wanted_gradient, rtol=once, atol=1e-5)


@kernel
def test_kernel_with_no_rois():
    for boxes in (torch.zeros(0, 5, device=DEVICE), [torch.zeros(0, 4, device=DEVICE)] * 2):
        input = features(2, 3, 2, 2)
        output, gradient = forward_and_gradient(roi_align, input, boxes, (2, 3))
        assert output.shape == (0, 3, 2, 3)
        assert torch.equal(gradient, torch.zeros_like(input))


@kernel
def test_kernel_with_no_images_or_no_channels():
    assert roi_align(features(0, 3, 2, 2), [], 2).shape == (0, 3, 2, 2)
    roi = torch.tensor([[0.0, 0, 0, 2, 2]], device=DEVICE)
    output, gradient = forward_and_gradient(roi_align, features(1, 0, 2, 2), roi, 2)
    assert output.shape == (1, 0, 2, 2) and gradient.shape == (1, 0, 2, 2)


@kernel
def test_kernel_gives_the_same_bits_again_and_for_every_layout():
    rois = torch.tensor([[0, 0.3, 0.1, 2.9, 2.7]] * 3, device=DEVICE)
    input = features(1, 5, 3, 3)
    wide = torch.zeros(1, 5, 3, 6, device=DEVICE)
    wide[..., ::2] = input.detach()
    layouts = [
        input,
        input,
        input.detach().contiguous(memory_format=torch.channels_last),
        wide[..., ::2],
    ]
    torch.use_deterministic_algorithms(True)
    try:
        runs = [
            forward_and_gradient(roi_align, layout.detach().requires_grad_(), rois, 2, 1.0, 2, True)
            for layout in layouts
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    for output, gradient in runs[1:]:
        assert torch.equal(output, runs[0][0]) and torch.equal(gradient, runs[0][1])


@kernel
def test_kernel_gives_nan_for_what_it_cannot_know():
    nan = float("nan")
    rois = torch.tensor(
        [[0, 0, 0, 2, 2], [0, nan, 0, 2, 2], [0, 0, 0, nan, 2], [1, 0, 0, 2, 2], [-1, 0, 0, 2, 2]],
        device=DEVICE,
    )
    # By itself, because roi_align refuses such rois on the CPU, where the interpreter runs the kernel.
    for sampling_ratio in (1, -1):
        image, corners = rois[:, 0].long(), rois[:, 1:]
        output = module.crop_rois(
            features(1, 2, 3, 3), image, corners, (1, 1), sampling_ratio, True
        )
        assert output.isfinite()[0].all() and output.isnan()[1:].all()


@gpu
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gpu_at_the_size_of_mask_rcnn(memory_format):
    input = features(2, 256, 50, 68).detach().contiguous(memory_format=memory_format)
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(512, 2, 2, generator=generator) * torch.tensor([68.0, 50.0]) * 16
    images = torch.randint(2, (512, 1), generator=generator)
    rois = torch.cat([images, corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    arguments = (7, 1 / 16, 2, True)
    torch.use_deterministic_algorithms(True)
    try:
        runs = [
            forward_and_gradient(roi_align, input.requires_grad_(), rois.cuda(), *arguments)
            for _ in range(3)
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    exact = input.detach().cpu().double().requires_grad_()
    output = tv.roi_align(exact, rois.double(), *arguments)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).double()
    wanted = output.detach(), torch.autograd.grad(output, exact, weights)[0]
    for run in runs:
        for ours, first, theirs in zip(run, runs[0], wanted, strict=True):
            assert torch.equal(ours, first)
            torch.testing.assert_close(ours.cpu().double(), theirs, rtol=1e-4, atol=1e-3)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("numbers", ["fp32", "fp16"])
def test_compiles_for_gpus_without_one(numbers):
    """The interpreter forgives what the compiler does not; the compiler needs no GPU to say so."""
    import triton
    from triton.backends.compiler import GPUTarget

    sizes = dict.fromkeys(["images", "height", "width", "channels"], "i32")
    taps = dict(tap_pixel="*i32", tap_weight="*fp32", tap_bin="*i32")
    rois = dict(rois="*fp32", samples="*i32", starts="*i64")
    sorted_taps = dict(order="*i64", begins="*i64")
    rows = dict.fromkeys(["pixels", "output", "gradient_output", "gradient"], f"*{numbers}")
    types = sizes | taps | rois | sorted_taps | rows
    constants = dict(ROWS=7, COLUMNS=7, ALIGNED=True, CHANNELS=128)
    for function in (module._forward_kernel, module._list_taps_kernel, module._backward_kernel):
        names = function.arg_names
        signature = {name: types.get(name, "constexpr") for name in names}
        known = {name: constants[name] for name in names if name in constants}
        source = triton.compiler.ASTSource(function, signature, known)
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32))
        assert "atom." not in compiled.asm["ptx"] and "red." not in compiled.asm["ptx"]


def test_without_triton_it_can_be_imported_and_cannot_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setitem(sys.modules, "triton.language", None)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # so that only Triton itself is missing
    spec = importlib.util.spec_from_file_location("without_triton", module.__file__)
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    assert not without.can_run(torch.zeros(1, 1, 2, 2))
