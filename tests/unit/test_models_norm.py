"""Instance norm + leaky ReLU: exact against float64, whatever the layout, type or threads."""

import os

import numpy as np
import pytest
import torch
from torch.nn import functional

from volumen.errors import UserError
from volumen.models import InstanceNormLeakyReLU
from volumen.models.norm import uses_kernels

LAST = torch.channels_last_3d


def values(shape, seed=0, mean=0.0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * spread + mean).contiguous(memory_format=LAST)


def reference(x, gradient, weight=None, bias=None, slope=0.01):
    """Output and gradients in float64, by PyTorch's own operations."""
    x = x.detach().double().requires_grad_()
    parameters = [p.detach().double().requires_grad_() for p in (weight, bias) if p is not None]
    normal = functional.instance_norm(x, weight=parameters[0] if parameters else None,
                                      bias=parameters[1] if parameters else None, eps=1e-5)  # fmt: skip
    out = functional.leaky_relu(normal, slope)
    out.backward(gradient.double())
    return out.detach(), x.grad, [p.grad for p in parameters]


def relative(got, expected):
    return float((got.detach().double() - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("mean", [0.0, 30.0, -1000.0])
def test_float32_stays_exact_far_from_zero(mean):
    """The bound grows only with the rounding that float32 does to values of this mean."""
    x = values((2, 8, 16, 16, 16), mean=mean)
    gradient = values((2, 8, 16, 16, 16), seed=1)
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = InstanceNormLeakyReLU()(leaf)
    out.backward(gradient)
    expected, expected_gradient, _ = reference(x, gradient)
    tolerance = 1e-5 + 2e-7 * abs(mean)
    assert relative(out, expected) < tolerance
    # On the kink itself rounding decides which of the two slopes a voxel gets.
    away = expected.abs() > tolerance
    assert float(away.double().mean()) > 0.97
    assert relative(leaf.grad[away], expected_gradient[away]) < 5 * tolerance


def test_bfloat16_is_right_within_its_rounding():
    x = values((1, 16, 8, 8, 8), mean=2.0).bfloat16()
    gradient = values((1, 16, 8, 8, 8), seed=1).bfloat16()
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = InstanceNormLeakyReLU()(leaf)
    out.backward(gradient)
    assert out.dtype == leaf.grad.dtype == torch.bfloat16
    expected, expected_gradient, _ = reference(x, gradient)
    # Half a unit in the last of 8 bits, of each value itself.
    assert bool(((out.detach().double() - expected).abs() <= 2.0**-8 * expected.abs() + 1e-6).all())
    assert relative(leaf.grad, expected_gradient) < 2.0**-7


def test_bfloat16_rounds_like_pytorch_and_keeps_infinity_and_nan():
    special = torch.tensor(
        [0.0, -0.0, 1.0, 3.1415926, 1e-40, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan")]
    )
    from volumen.kernels.norm_loops import normalise

    def identity(array, out):
        channels = array.shape[1]
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        normalise(array, out, zeros, ones, zeros, np.float32(1), 0, array.shape[0])

    floats = torch.cat([special, torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 100])[None]
    bits = np.zeros(floats.shape, np.uint16)
    # float32 in, bfloat16 out is what PyTorch calls a cast; the kernel is told by the type of its array.
    identity(floats.numpy(), bits)
    ours = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    expected = floats.bfloat16()
    assert torch.equal(ours.isnan(), expected.isnan())
    assert torch.equal(ours[~ours.isnan()], expected[~expected.isnan()])


@pytest.mark.parametrize("slope", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
def test_slopes_and_overwriting_change_nothing_else(slope, inplace):
    x, gradient = values((2, 5, 4, 6, 7), mean=1.0), values((2, 5, 4, 6, 7), seed=1)
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = InstanceNormLeakyReLU(slope=slope, inplace=inplace)(leaf * 1.0)
    out.backward(gradient)
    expected, expected_gradient, _ = reference(x, gradient, slope=slope)
    assert relative(out, expected) < 1e-5
    assert relative(leaf.grad, expected_gradient) < 1e-5


def test_affine_learns_scale_and_shift_even_at_zero():
    x, gradient = values((3, 6, 5, 4, 8), mean=-2.0), values((3, 6, 5, 4, 8), seed=1)
    module = InstanceNormLeakyReLU(6, affine=True)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, -0.5, 0.0, 2.0, 1e-6, 1.5]))
        module.bias.copy_(torch.tensor([0.0, 0.5, 0.3, -1.0, 1e-3, 0.0]))
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = module(leaf)
    out.backward(gradient)
    expected, expected_gradient, (weight_gradient, bias_gradient) = reference(x, gradient, module.weight, module.bias)
    assert relative(out, expected) < 1e-5
    assert relative(leaf.grad, expected_gradient) < 1e-5
    assert relative(module.weight.grad, weight_gradient) < 1e-5
    assert relative(module.bias.grad, bias_gradient) < 1e-5


@pytest.mark.parametrize("affine", [False, True])
def test_a_constant_input_gives_zero_and_a_finite_gradient(affine):
    leaf = torch.full((2, 3, 4, 4, 4), 7.25).requires_grad_()
    out = InstanceNormLeakyReLU(3, affine=affine)(leaf)
    gradient = values((2, 3, 4, 4, 4), seed=1)
    out.backward(gradient)
    _, expected_gradient, _ = reference(torch.full((2, 3, 4, 4, 4), 7.25), gradient)
    assert torch.equal(out, torch.zeros_like(out))
    assert relative(leaf.grad, expected_gradient) < 1e-4


def test_every_number_of_threads_gives_the_same_numbers():
    x, gradient = values((2, 24, 20, 20, 20), mean=3.0), values((2, 24, 20, 20, 20), seed=1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
            out = InstanceNormLeakyReLU()(leaf)
            out.backward(gradient)
            results.append((out.detach(), leaf.grad))
    finally:
        torch.set_num_threads(before)
    for out, result in results[1:]:
        torch.testing.assert_close(out, results[0][0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(result, results[0][1], rtol=1e-6, atol=1e-6)


def test_the_layout_of_input_and_gradient_does_not_matter():
    x, gradient = values((2, 6, 4, 6, 8)), values((2, 6, 4, 6, 8), seed=1)
    results = []
    for layout in (LAST, torch.contiguous_format):
        for gradient_layout in (LAST, torch.contiguous_format):
            leaf = x.detach().clone(memory_format=layout).requires_grad_()
            InstanceNormLeakyReLU()(leaf).backward(gradient.clone(memory_format=gradient_layout))
            results.append(leaf.grad)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


def test_the_cancelled_bias_gets_exactly_zero_and_changes_nothing():
    x, bias = values((2, 4, 4, 4, 4)), torch.randn(4, requires_grad=True)
    norm = InstanceNormLeakyReLU()
    torch.testing.assert_close(norm(x, bias), norm(x), rtol=0, atol=0)
    norm(x, bias).square().sum().backward()
    assert torch.equal(bias.grad, torch.zeros(4))
    norm.plain = True
    torch.testing.assert_close(norm(x, bias), norm(x), rtol=1e-5, atol=1e-5)


def test_what_the_kernels_cannot_do_goes_the_plain_way():
    x = values((1, 2, 4, 4, 4))
    assert uses_kernels(x)
    assert not uses_kernels(x.double())
    assert not uses_kernels(x.half())
    assert not uses_kernels(x, plain=True)
    out = InstanceNormLeakyReLU()(x.double())
    expected, _, _ = reference(x, torch.zeros_like(x))
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_nothing_but_the_output_is_kept_without_scale_and_shift():
    kept = []
    x = values((1, 8, 8, 8, 8)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        out = InstanceNormLeakyReLU()(x)
    assert [tensor.data_ptr() for tensor in kept] == [out.data_ptr()]


def test_an_input_overwritten_by_mistake_is_caught():
    x = values((1, 4, 4, 4, 4)).requires_grad_()
    squared = x.square()
    kept = squared.exp()  # keeps its output, not its input
    lost = squared.sin()  # keeps its input
    out = InstanceNormLeakyReLU(inplace=True)(squared)
    (out.sum() + kept.sum()).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        lost.sum().backward()


def test_one_voxel_and_a_bad_slope_are_refused_with_the_fix():
    with pytest.raises(UserError, match="larger patch"):
        InstanceNormLeakyReLU()(torch.zeros(2, 3, 1, 1, 1))
    with pytest.raises(UserError, match=r"slope.*above 0"):
        InstanceNormLeakyReLU(slope=0.0)
    with pytest.raises(UserError, match="channels"):
        InstanceNormLeakyReLU(affine=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_worker_makes_its_own_threads():
    x = values((1, 32, 24, 24, 24))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = InstanceNormLeakyReLU()(x)
        child = os.fork()
        if child == 0:
            # The child never returns to pytest, and leaves PyTorch's own threads, which do not survive a fork, alone.
            ours = InstanceNormLeakyReLU()(x)
            os._exit(0 if np.array_equal(ours.numpy(), expected.numpy()) else 1)
        _, status = os.waitpid(child, 0)
    finally:
        torch.set_num_threads(before)
    assert os.waitstatus_to_exitcode(status) == 0
