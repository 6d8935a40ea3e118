"""Laws of the Triton pooling: the tensor operations it stands for, values and gradients, ties and NaN included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interpreted import holds_interpreted, in_parent, on_devices

from volumen.kernels import pooling_tensor, triton_pooling

shapes = st.tuples(st.integers(1, 2), *[st.integers(1, 8)] * 3)
dtypes = st.sampled_from([torch.float32, torch.float64])
axes_drawn = st.sampled_from([(1,), (2,), (3,), (1, 2, 3)])


@in_parent
def test_the_laws_hold_in_the_interpreter():
    holds_interpreted(__file__)


def plain(patch):
    patch.setattr(pooling_tensor, "_on_triton", lambda volume: False)


def draw(shape, seed, dtype, bad, device):
    """Numbers of which many are equal; with `bad`, a NaN among them."""
    generator = torch.Generator().manual_seed(seed)
    values = (torch.randint(0, 4, shape, generator=generator) / 4).to(dtype)
    if bad:
        values.view(-1)[seed % values.numel()] = float("nan")
    return values.to(device)


@on_devices
@settings(max_examples=12, deadline=None)
@given(shapes, axes_drawn, st.integers(0, 2**31), dtypes, st.booleans(), st.booleans())
def test_values_and_gradients_are_those_of_the_tensor_operations(device, shape, axes, seed, dtype, largest, bad):
    source = draw(shape, seed, dtype, bad, device)
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1), dtype=dtype).to(device)
    with pytest.MonkeyPatch.context() as patch:
        plain(patch)
        expected = pooling_tensor._pool(source, axes, torch.maximum if largest else torch.minimum)
        back = pooling_tensor._pool_backward(source, expected, gradient, axes)
    pooled = triton_pooling.pool(source, axes, largest=largest)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=0, equal_nan=True)
    found = triton_pooling.pool_backward(source, expected, gradient, axes)
    torch.testing.assert_close(found, back, equal_nan=True)


@on_devices
@settings(max_examples=3, deadline=None)
@given(shapes, st.integers(0, 2**31), st.integers(1, 3))
def test_a_skeleton_made_of_it_is_that_of_the_tensor_operations(device, shape, seed, iterations):
    source, found = draw(shape, seed, torch.float32, False, device), []
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1)).to(device)
    for triton in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pooling_tensor, "_on_triton", lambda volume, triton=triton: triton)
            levels, skeletons = pooling_tensor.skeleton_levels(source, iterations)
            found.append((skeletons[-1], pooling_tensor.skeleton_backward(levels, skeletons[:-1], gradient)))
    torch.testing.assert_close(found[0], found[1])
