"""Laws of the Triton pooling and joining: PyTorch's operations, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interpreted import holds_interpreted, in_parent, on_devices
from torch.nn import functional

from volumen.kernels import triton_rows
from volumen.kernels.triton_resample import TritonJoin, TritonPool
from volumen.models import levels

LAST = torch.channels_last_3d
SETTINGS = settings(max_examples=15, deadline=None)

halves = st.tuples(st.integers(1, 2), st.integers(1, 40), *[st.integers(1, 3)] * 3)
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
tiles = st.builds(
    triton_rows.Tiles, reduce=st.sampled_from([128, 4096]), apply=st.sampled_from([256, 4096]),
    alone=st.sampled_from([0, 2048]), most_channels=st.sampled_from([8, 128]),
)  # fmt: skip
seeds = st.integers(0, 2**31)


@in_parent
def test_the_laws_hold_in_the_interpreter():
    holds_interpreted(__file__)


def draw(device, shape, seed, dtype):
    """Numbers in quarters, of which many are equal."""
    values = torch.randint(-6, 7, shape, generator=torch.Generator().manual_seed(seed)) / 4
    return values.to(device, dtype).contiguous(memory_format=LAST)


def larger(shape):
    return (*shape[:2], *(2 * side for side in shape[2:]))


@on_devices
@SETTINGS
@given(halves, seeds, dtypes, st.booleans(), st.booleans(), tiles)
def test_pooling_is_pytorchs_with_the_other_gradient_added(device, shape, seed, dtype, largest, strided, cut):
    values, gradient = draw(device, larger(shape), seed, dtype), draw(device, shape, seed + 1, dtype)
    side = draw(device, larger(shape), seed + 2, dtype)
    leaf, exact = values.clone().requires_grad_(), values.float().requires_grad_()
    arriving = torch.cat([side, side], 1).contiguous(memory_format=LAST)[:, shape[1] :] if strided else side
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_rows, "TILES", cut)
        pooled, kept = TritonPool.apply(leaf * 1, largest)
        torch.autograd.backward([pooled, kept], [gradient, arriving])
    expected = functional.max_pool3d(exact, 2) if largest else functional.avg_pool3d(exact, 2)
    torch.autograd.backward([expected, exact * 1], [gradient.float(), side.float()])
    assert torch.equal(kept, values)
    assert pooled.is_contiguous(memory_format=LAST)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled.float(), expected, rtol=2 * torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(leaf.grad.float(), exact.grad, rtol=2 * torch.finfo(dtype).eps, atol=0)


@on_devices
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("which", ["pooled", "kept"])
def test_either_result_may_go_unused(device, largest, which):
    leaf = draw(device, (1, 3, 2, 4, 2), 0, torch.float32).requires_grad_()
    exact = leaf.detach().clone().requires_grad_()
    pooled, kept = TritonPool.apply(leaf * 1, largest)
    (pooled if which == "pooled" else kept).square().sum().backward()
    other = functional.max_pool3d(exact, 2) if largest else functional.avg_pool3d(exact, 2)
    (other if which == "pooled" else exact).square().sum().backward()
    torch.testing.assert_close(leaf.grad, exact.grad)


@on_devices
def test_a_nan_is_pooled(device):
    values = draw(device, (1, 2, 2, 2, 4), 0, torch.float32)
    values[0, 1, 1, 0, 3] = float("nan")
    pooled, _ = TritonPool.apply(values, True)
    torch.testing.assert_close(pooled, functional.max_pool3d(values, 2), equal_nan=True, rtol=0, atol=0)


@on_devices
@SETTINGS
@given(halves, st.integers(1, 40), seeds, dtypes, tiles)
def test_joining_is_concatenation(device, shape, beside, seed, dtype, cut):
    raised, skip = draw(device, shape, seed, dtype), draw(device, (shape[0], beside, *shape[2:]), seed + 1, dtype)
    bias = draw(device, (shape[1], 1, 1, 1, 1), seed + 2, torch.float32).view(-1)
    gradient = draw(device, (shape[0], shape[1] + beside, *shape[2:]), seed + 3, dtype)
    given_, exact = ([tensor.clone().requires_grad_() for tensor in (raised, bias, skip)] for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_rows, "TILES", cut)
        out = TritonJoin.apply(*given_)
        out.backward(gradient)
    added = (exact[0] + exact[1].to(dtype).view(-1, 1, 1, 1)).to(dtype)
    expected = torch.cat([added, exact[2]], 1)
    expected.backward(gradient)
    assert torch.equal(out, expected)  # quarters: nothing is rounded
    assert out.is_contiguous(memory_format=LAST)
    assert torch.equal(given_[0].grad, exact[0].grad)
    assert torch.equal(given_[2].grad, exact[2].grad)
    wanted = gradient[:, : shape[1]].float().sum((0, 2, 3, 4))
    torch.testing.assert_close(given_[1].grad, wanted)


@on_devices
@pytest.mark.parametrize("largest", [True, False])
def test_odd_sides_are_pytorchs(device, monkeypatch, largest):
    monkeypatch.setattr(levels, "uses_triton", lambda values, plain=False: not plain)
    values = draw(device, (1, 3, 5, 4, 3), 0, torch.float32)
    pooled, kept = levels.halve((torch.nn.MaxPool3d if largest else torch.nn.AvgPool3d)(2), values, plain=False)
    expected = functional.max_pool3d(values, 2) if largest else functional.avg_pool3d(values, 2)
    torch.testing.assert_close(pooled, expected)
    assert kept is values
