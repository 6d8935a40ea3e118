"""Laws of the Triton convolutions against float64, forward and both gradients; which convolutions they take."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interpreted import holds_interpreted, in_parent, on_devices
from torch.nn import functional

from volumen.kernels import triton_convolution
from volumen.kernels.triton_convolution import _Convolution, convolve_on_card, logits_on_card

LAST = torch.channels_last_3d
SETTINGS = settings(max_examples=6, deadline=None)
TYPES = st.sampled_from([torch.float32, torch.float16])  # the interpreter multiplies no bfloat16
seeds = st.integers(0, 2**31)
sides = st.tuples(st.integers(1, 3), st.integers(1, 5), st.sampled_from([1, 2, 17, 63, 64, 65, 126, 128, 130]))


@in_parent
def test_the_laws_hold_in_the_interpreter():
    holds_interpreted(__file__)


def draw(device, shape, seed, dtype, scale=1.0):
    values = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(device, dtype)


def near(found, expected, dtype):
    """Rounding of the type once, of float32 sums besides."""
    bound = 2 * torch.finfo(dtype).eps * expected.abs() + 3e-6 * (1 + float(expected.abs().max()))
    assert bool(((found.double() - expected).abs() <= bound).all())


def compared(function, exact, leaves, gradient, dtype):
    out = function(*leaves)
    found = torch.autograd.grad(out, [one for one in leaves if one.requires_grad], gradient)
    doubles = [one.detach().double().requires_grad_(one.requires_grad) for one in leaves]
    expected = exact(*doubles)
    wanted = torch.autograd.grad(expected, [one for one in doubles if one.requires_grad], gradient.double())
    assert out.dtype == dtype
    near(out.detach(), expected.detach(), dtype)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype
        near(one, other, dtype)


@on_devices
@SETTINGS
@given(st.sampled_from([(32, 32), (64, 32), (32, 64)]), sides, st.integers(1, 2), seeds, TYPES)
def test_convolutions_of_few_channels_equal_float64(device, channels, size, samples, seed, dtype):
    inside, outside = channels
    image = draw(device, (samples, inside, *size), seed, dtype).contiguous(memory_format=LAST).requires_grad_()
    weight = draw(device, (outside, inside, 3, 3, 3), seed + 1, dtype, 0.05).requires_grad_()
    gradient = draw(device, (samples, outside, *size), seed + 2, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_convolution, "_LEAST_USE", 0.0)  # also where cuDNN would be quicker
        exact = lambda image, weight: functional.conv3d(image, weight, padding=1)  # noqa: E731
        compared(_Convolution.apply, exact, [image, weight], gradient, dtype)


@on_devices
@SETTINGS
@given(st.sampled_from([16, 32, 64]), sides, st.integers(1, 2), seeds, TYPES)
def test_the_first_convolution_equals_float64(device, outside, size, samples, seed, dtype):
    image = draw(device, (samples, 1, *size), seed, dtype)
    weight = draw(device, (outside, 1, 3, 3, 3), seed + 1, dtype, 0.2).requires_grad_()
    gradient = draw(device, (samples, outside, *size), seed + 2, dtype)
    exact = lambda image, weight: functional.conv3d(image, weight, padding=1)  # noqa: E731
    compared(convolve_on_card, exact, [image, weight], gradient, dtype)


@on_devices
@SETTINGS
@given(st.integers(1, 70), sides, st.integers(1, 2), seeds, TYPES)
def test_logits_equal_float64(device, channels, size, samples, seed, dtype):
    image = draw(device, (samples, channels, *size), seed, dtype).contiguous(memory_format=LAST).requires_grad_()
    weight = draw(device, (1, channels, 1, 1, 1), seed + 1, dtype, 0.3).requires_grad_()
    bias = draw(device, (1,), seed + 2, dtype).requires_grad_()
    gradient = draw(device, (samples, 1, *size), seed + 3, dtype)
    compared(logits_on_card, functional.conv3d, [image, weight, bias], gradient, dtype)


def taken(monkeypatch, shape, outside, kernel=3, stride=1, dtype=torch.bfloat16):
    """Whether a convolution goes through the kernels, told without doing it."""
    monkeypatch.setattr(_Convolution, "apply", staticmethod(lambda image, weight: "ours"))
    monkeypatch.setattr(functional, "conv3d", lambda *_, **__: "cudnn")
    monkeypatch.setattr(triton_convolution, "_cast", lambda tensor: tensor)  # knows no device "meta"
    image = torch.empty(shape, dtype=dtype, device="meta")
    weight = torch.empty((outside, shape[1], kernel, kernel, kernel), dtype=dtype, device="meta")
    return convolve_on_card(image, weight, stride=stride) == "ours"


@pytest.mark.parametrize(
    ("shape", "outside", "more", "ours"),
    [
        ((2, 32, 128, 128, 128), 32, {}, True),
        ((2, 64, 128, 128, 128), 32, {}, True),
        ((2, 32, 128, 128, 128), 32, {"stride": 2}, False),
        ((2, 32, 128, 128, 128), 32, {"kernel": 1}, False),
        ((2, 32, 128, 128, 128), 32, {"dtype": torch.float32}, False),  # no faster there
        ((2, 64, 64, 64, 64), 64, {}, False),
        ((2, 128, 64, 64, 64), 32, {}, False),
        ((1, 32, 16, 16, 16), 32, {}, False),
        ((8, 64, 320, 320, 320), 32, {}, False),  # more numbers than 32 bits count
        ((2, 1, 128, 128, 128), 32, {}, True),
        ((2, 1, 128, 128, 128), 24, {}, False),
    ],
)
def test_kernels_are_taken_where_they_were_measured_faster(monkeypatch, shape, outside, more, ours):
    assert taken(monkeypatch, shape, outside, **more) == ours
