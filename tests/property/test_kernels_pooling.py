"""Soft skeleton and dilation: against autograd through plain pooling, and laws that ties must not break."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from volumen.kernels import pooling, pooling_tensor
from volumen.kernels.pooling import dilate_cube, soft_skeleton

SHAPES = st.tuples(st.integers(1, 2), *[st.integers(1, 7)] * 3)


def volume(seed: int, shape: tuple[int, ...], tied: bool, dtype: torch.dtype = torch.float64) -> Tensor:
    values = np.random.default_rng(seed).random(shape)
    return torch.from_numpy(np.round(4 * values) / 4 if tied else values).to(dtype).requires_grad_()


def plain_skeleton(probabilities: Tensor, iterations: int) -> Tensor:
    """The definition, with PyTorch's pooling and autograd, one erosion after the other."""

    def erode(x: Tensor) -> Tensor:
        along = [-F.max_pool3d(-x, size, 1, [s // 2 for s in size]) for size in ([3, 1, 1], [1, 3, 1], [1, 1, 3])]
        return torch.minimum(torch.minimum(along[0], along[1]), along[2])

    level, skeleton = probabilities.unsqueeze(1), torch.zeros_like(probabilities).unsqueeze(1)
    for _ in range(iterations + 1):
        residue = F.relu(level - F.max_pool3d(erode(level), 3, 1, 1))
        skeleton = skeleton + F.relu(residue - skeleton * residue)
        level = erode(level)
    return skeleton.squeeze(1)


def gradient_of(result: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    weight = torch.sin(torch.arange(result.numel(), dtype=result.dtype)).view(result.shape)
    return torch.autograd.grad((result * weight).sum(), source)[0], weight


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), shape=SHAPES, iterations=st.integers(0, 4))
def test_skeleton_equals_plain_autograd_on_distinct_values(seed, shape, iterations):
    source = volume(seed, shape, tied=False)
    result, expected = soft_skeleton(source, iterations), plain_skeleton(source, iterations)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient_of(result, source)[0], gradient_of(expected, source)[0], rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), shape=SHAPES, radius=st.integers(1, 3))
def test_dilation_equals_plain_autograd_on_distinct_values(seed, shape, radius):
    source = volume(seed, shape, tied=False)
    result = dilate_cube(source, radius)
    expected = F.max_pool3d(source.unsqueeze(1), 2 * radius + 1, 1, radius).squeeze(1)
    assert torch.equal(result, expected)
    torch.testing.assert_close(gradient_of(result, source)[0], gradient_of(expected, source)[0], rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), shape=SHAPES, iterations=st.integers(0, 3), tied=st.booleans())
def test_compiled_kernels_equal_tensor_operations(seed, shape, iterations, tied):
    source = volume(seed, shape, tied)
    result = soft_skeleton(source, iterations)
    gradient, weight = gradient_of(result, source)
    levels, skeletons = pooling_tensor.skeleton_levels(source.detach(), iterations)
    assert torch.equal(skeletons[-1], result)
    other = pooling_tensor.skeleton_backward(levels, skeletons[:-1], weight)
    torch.testing.assert_close(other, gradient, rtol=0, atol=1e-12)
    dilated = dilate_cube(source)
    assert torch.equal(pooling_tensor.dilate(source.detach()), dilated)
    other = pooling_tensor.dilate_backward(source.detach(), weight)
    torch.testing.assert_close(other, gradient_of(dilated, source)[0], rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), shape=SHAPES, axis=st.integers(1, 3))
def test_flips_commute_even_with_ties(seed, shape, axis):
    source = volume(seed, shape, tied=True)
    flipped = source.detach().flip(axis).requires_grad_()
    result, other = soft_skeleton(source, 2), soft_skeleton(flipped, 2)
    assert torch.equal(other.flip(axis), result)
    weight = torch.rand(shape, dtype=torch.float64)
    gradient = torch.autograd.grad((result * weight).sum(), source)[0]
    flipped_gradient = torch.autograd.grad((other * weight.flip(axis)).sum(), flipped)[0]
    torch.testing.assert_close(flipped_gradient.flip(axis), gradient, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), shape=SHAPES, tied=st.booleans())
def test_dilation_hands_on_the_whole_gradient(seed, shape, tied):
    source = volume(seed, shape, tied)
    gradient, weight = gradient_of(dilate_cube(source, 2), source)
    torch.testing.assert_close(gradient.sum(), weight.sum(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_inference_give_the_same_bits(threads):
    source = volume(0, (3, 9, 8, 7), tied=False, dtype=torch.float32)
    before = torch.get_num_threads()
    reference = soft_skeleton(source, 3)
    reference_gradient, _ = gradient_of(reference, source)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(soft_skeleton(source, 3), reference)
        assert torch.equal(gradient_of(soft_skeleton(source, 3), source)[0], reference_gradient)
        assert torch.equal(soft_skeleton(source.detach(), 3), reference)
        with torch.no_grad():
            assert torch.equal(soft_skeleton(source, 3), reference)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_a_plate_keeps_a_skeleton_up_to_its_thickness(iterations):
    thickest = 2 * iterations + 2
    for thickness, left in ((thickest, True), (thickest + 1, False)):
        plate = torch.zeros(1, thickness + 6, 9, 9)
        plate[:, 3 : 3 + thickness] = 1
        skeleton = soft_skeleton(plate, iterations)
        assert bool(skeleton.any()) is left
        middle = slice(3 + (thickness - 1) // 2, 3 + thickness // 2 + 1)
        assert bool(skeleton[:, middle].all()) is left


def test_off_the_cpu_the_tensor_operations_are_taken(monkeypatch):
    # No accelerator is at hand, so the meta device stands in: it computes shapes only, and the kernels cannot read it.
    source = torch.empty(2, 5, 6, 7, device="meta", requires_grad=True)
    called = []
    original = pooling_tensor.skeleton_levels
    monkeypatch.setattr(
        pooling.tensor_operations, "skeleton_levels", lambda *a: called.append("skeleton") or original(*a)
    )
    result = soft_skeleton(source, 2) + dilate_cube(source, 2)
    result.sum().backward()
    assert called == ["skeleton"]
    assert source.grad.shape == source.shape


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), shape=SHAPES, iterations=st.integers(0, 3), share=st.floats(0.0, 1.0))
def test_what_is_not_a_number_is_no_error(seed, shape, iterations, share):
    source = volume(seed, shape, tied=True)
    with torch.no_grad():
        source[torch.from_numpy(np.random.default_rng(seed).random(shape) < share)] = float("nan")
    for result in (soft_skeleton(source, iterations), dilate_cube(source)):
        assert gradient_of(result, source)[0].shape == source.shape
