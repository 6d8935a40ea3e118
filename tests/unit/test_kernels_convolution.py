"""The compiled weight gradient: equal to float64 for every shape, and used only where it was measured."""

import pytest
import torch

from volumen.kernels import convolution
from volumen.kernels.convolution import convolve, weight_gradient

LAST = torch.channels_last_3d
NATIVE = torch.backends.cpu.get_cpu_capability() == "AVX2"


def reference(image, gradient):
    """Gradient of the weight in float64."""
    weight = torch.zeros(gradient.shape[1], image.shape[1], 3, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.conv3d(image.double(), weight, padding=1).backward(gradient.double())
    return weight.grad


def data(shape, inside, outside, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = (torch.randn(shape[0], channels, *shape[1:], generator=generator) for channels in (inside, outside))
    return tuple(tensor.contiguous(memory_format=LAST) for tensor in made)


@pytest.mark.parametrize(("inside", "outside"), [(1, 8), (3, 8), (4, 16), (8, 8), (8, 24), (13, 40), (16, 16), (32, 8)])
@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (2, 5, 7, 9), (3, 1, 6, 8), (1, 3, 1, 17), (1, 2, 3, 70)])
def test_the_weight_gradient_equals_float64(inside, outside, shape):
    image, gradient = data(shape, inside, outside)
    expected = reference(image, gradient)
    got = weight_gradient(image, gradient)
    assert got.shape == expected.shape
    assert float((got.double() - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_long_sums_stay_exact():
    image, gradient = data((2, 40, 40, 40), 8, 16)
    image, gradient = image + 1.0, gradient + 1.0  # sums grow instead of cancelling
    expected = reference(image, gradient)
    got = weight_gradient(image.contiguous(memory_format=LAST), gradient.contiguous(memory_format=LAST))
    assert float(((got.double() - expected) / expected).abs().max()) < 2e-5


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_share_the_planes(threads):
    image, gradient = data((2, 3, 6, 8), 8, 8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = weight_gradient(image, gradient)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(got.double(), reference(image, gradient), rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not NATIVE, reason="the compiled gradient is for AVX2")
@pytest.mark.parametrize("shape", [(1, 6, 5, 8), (2, 6, 5, 8), (1, 52, 52, 8)])  # the last is above the size left out
def test_the_whole_convolution_equals_pytorch(shape):
    image, gradient = data(shape, 8, 16)
    results = []
    for function in (convolve, lambda x, w: torch.nn.functional.conv3d(x, w, padding=1)):
        leaf = image.clone(memory_format=torch.preserve_format).requires_grad_()
        weight = torch.linspace(-0.02, 0.04, 16 * 8 * 27).view(16, 8, 3, 3, 3).requires_grad_()  # no symmetry
        out = function(leaf, weight)
        out.backward(gradient)
        results.append((out.detach(), leaf.grad, weight.grad))
    assert "Convolution" in type(convolve(image, weight).grad_fn).__name__
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inside", "outside", "kernel", "stride"), [(1, 8, 3, 1), (8, 12, 3, 2), (6, 7, 1, 1)])
@pytest.mark.parametrize("samples", [1, 2])
def test_inference_equals_pytorch(inside, outside, kernel, stride, samples):
    image, _ = data((samples, 6, 8, 10), inside, outside)
    weight = torch.linspace(-1, 2, outside * inside * kernel**3).view(outside, inside, kernel, kernel, kernel)
    expected = torch.nn.functional.conv3d(image.double(), weight.double(), stride=stride, padding=kernel // 2)
    with torch.inference_mode():
        got = convolve(image, weight, stride=stride)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("inside", "outside", "samples", "stride", "dtype"),
    [(8, 12, 2, 1, torch.float32), (1, 8, 2, 1, torch.float32), (8, 8, 2, 2, torch.float32),
     (512, 512, 1, 1, torch.float32), (8, 8, 2, 1, torch.float64)],
)  # fmt: skip
def test_everything_else_is_pytorchs(inside, outside, samples, stride, dtype, monkeypatch):
    monkeypatch.setattr(convolution, "weight_gradient", None)  # would fail if called
    image, _ = data((samples, 4, 4, 4), inside, outside)
    weight = torch.full((outside, inside, 3, 3, 3), 0.01, dtype=dtype, requires_grad=True)
    out = convolve(image.to(dtype), weight, stride=stride)
    out.sum().backward()
    assert out.shape == (samples, outside, 4 // stride, 4 // stride, 4 // stride)
    assert weight.grad is not None


def test_autocast_is_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(convolution, "weight_gradient", None)
    image, _ = data((1, 4, 4, 4), 8, 8)
    weight = torch.full((8, 8, 3, 3, 3), 0.01, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = convolve(image, weight)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(1, 2, 2, 2), (2, 2, 2, 2), (2, 2, 4, 4)])
@pytest.mark.parametrize("channels", [8, 64])
def test_two_planes_in_bfloat16_have_a_gradient(shape, channels):
    """PyTorch 2.13 gives memory that was never written here, on processors with AVX512-BF16."""
    image, gradient = data(shape, channels, channels)
    expected = reference(image.bfloat16(), gradient.bfloat16())
    for _ in range(5):
        weight = torch.full((channels, channels, 3, 3, 3), 0.01, requires_grad=True)
        unclean = [torch.full((2**size,), float("nan")) for size in range(8, 22)]
        del unclean  # what is allocated next holds NaN until it is written
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = convolve(image, weight)
        assert out.shape == gradient.shape
        out.backward(gradient.bfloat16())
        error = float((weight.grad.double() - expected).abs().max())
        assert error < 0.02 * float(expected.abs().max())
