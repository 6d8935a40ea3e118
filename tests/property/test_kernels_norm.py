"""Laws of instance norm + leaky ReLU and of the convolution's weight gradient, over odd shapes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from volumen.kernels.convolution import weight_gradient
from volumen.models import InstanceNormLeakyReLU

LAST = torch.channels_last_3d
SETTINGS = settings(max_examples=25, deadline=None)

shapes = st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 6), st.integers(1, 6), st.integers(2, 9))
seeds = st.integers(0, 2**31)


def draw(shape, seed, mean=0.0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * spread + mean).contiguous(memory_format=LAST)


@SETTINGS
@given(shapes, seeds, st.floats(-5, 5), st.floats(0.1, 100), st.booleans(), st.booleans())
def test_value_and_gradient_equal_pytorch_in_float64(shape, seed, mean, spread, affine, inplace):
    x, gradient = draw(shape, seed, mean * spread, spread), draw(shape, seed + 1)
    module = InstanceNormLeakyReLU(shape[1], affine=affine, inplace=inplace)
    if affine:
        with torch.no_grad():
            module.weight.copy_(draw((shape[1], 1, 1, 1, 1), seed + 2).view(-1))
            module.bias.copy_(draw((shape[1], 1, 1, 1, 1), seed + 3).view(-1))
    leaf, exact = x.clone(memory_format=torch.preserve_format).requires_grad_(), x.double().requires_grad_()
    out = module(leaf * 1.0)
    out.backward(gradient)
    weight, bias = (module.weight.detach().double(), module.bias.detach().double()) if affine else (None, None)
    normal = functional.instance_norm(exact, weight=weight, bias=bias)
    expected = functional.leaky_relu(normal, 0.01)
    expected.backward(gradient.double())
    scale = float(expected.detach().abs().max())
    assert float((out.detach().double() - expected.detach()).abs().max()) <= 1e-5 * max(scale, 1.0)
    away = normal.detach().abs() > 1e-4  # on the kink rounding decides the slope
    if bool(away.all()):
        error = (leaf.grad.double() - exact.grad).abs().max()
        # The normalised gradient is a difference of sums as large as the gradient times 1 / deviation.
        size = float(gradient.abs().max()) / max(spread, 1e-3) * (float(weight.abs().max()) if affine else 1.0)
        assert float(error) <= 1e-4 * max(size, float(exact.grad.abs().max()))


@SETTINGS
@given(shapes, seeds)
def test_each_sample_is_normalised_alone(shape, seed):
    x = draw(shape, seed)
    norm = InstanceNormLeakyReLU()
    together = norm(x)
    for index in range(shape[0]):
        alone = norm(x[index : index + 1].contiguous(memory_format=LAST))
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-6, atol=1e-6)


@SETTINGS
@given(shapes, seeds, st.floats(0.5, 20), st.floats(-20, 20))
def test_scaling_and_shifting_the_input_changes_nothing(shape, seed, factor, shift):
    x = draw(shape, seed)
    norm = InstanceNormLeakyReLU(slope=1.0, eps=1e-12)
    spread = x.flatten(2).std(dim=2, correction=0)
    if float(spread.min()) < 0.05:  # nearly constant channels amplify rounding
        return
    torch.testing.assert_close(norm(x * factor + shift), norm(x), rtol=2e-3, atol=2e-3)


@SETTINGS
@given(shapes, seeds)
def test_the_gradient_of_the_norm_is_orthogonal_to_ones_and_to_the_normalised_values(shape, seed):
    x, gradient = draw(shape, seed).requires_grad_(), draw(shape, seed + 1)
    out = InstanceNormLeakyReLU(slope=1.0)(x)
    out.backward(gradient)
    result, normal = x.grad.flatten(2).double(), out.detach().flatten(2).double()
    spread = x.detach().flatten(2).double().std(dim=2, correction=0)
    # Of two voxels nothing is left: errors are measured against what came in, not against what remains.
    scale = gradient.flatten(2).double().abs().sum(dim=2) / (spread**2 + 1e-5).sqrt()
    assert float((result.sum(dim=2).abs() / scale).max()) < 1e-5
    wide = spread > 0.1  # the epsilon in the variance breaks the second law for nearly constant channels
    if bool(wide.any()):
        assert float(((result * normal).sum(dim=2).abs() / scale)[wide].max()) < 2e-3


@SETTINGS
@given(
    st.integers(1, 2), st.integers(1, 20), st.integers(1, 4).map(lambda n: 8 * n),
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 11), seeds,
)  # fmt: skip
def test_the_weight_gradient_is_the_derivative_of_the_convolution(samples, inside, outside, depth, rows, columns, seed):
    image = draw((samples, inside, depth, rows, columns), seed)
    gradient = draw((samples, outside, depth, rows, columns), seed + 1)
    weight = torch.zeros(outside, inside, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    functional.conv3d(image.double(), weight, padding=1).backward(gradient.double())
    error = (weight_gradient(image, gradient).double() - weight.grad).abs().max()
    assert float(error) <= 1e-5 * max(1.0, float(weight.grad.abs().max()))
