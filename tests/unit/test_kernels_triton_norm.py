"""Laws of the Triton norm against float64: forward, both gradients, every type, odd shapes, large means."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interpreted import holds_interpreted, in_parent, on_devices
from torch.nn import functional

from volumen.errors import UserError
from volumen.kernels import triton_rows
from volumen.kernels.triton_norm import TritonAffineNorm, TritonNorm
from volumen.models import InstanceNormLeakyReLU, ResEncUNet, UNet, blocks, levels, norm, set_plain

LAST = torch.channels_last_3d
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SETTINGS = settings(max_examples=15, deadline=None)

shapes = st.tuples(
    st.integers(1, 2), st.integers(1, 70), st.integers(1, 5), st.integers(1, 5), st.integers(2, 7)
).filter(lambda shape: math.prod(shape) <= 1500)
tiles = st.builds(
    triton_rows.Tiles, reduce=st.sampled_from([128, 4096]), apply=st.sampled_from([256, 4096]),
    alone=st.sampled_from([0, 2048]), most_channels=st.sampled_from([16, 128]),
    finish_channels=st.sampled_from([4, 16]),
)  # fmt: skip
seeds = st.integers(0, 2**31)


@in_parent
def test_the_laws_hold_in_the_interpreter():
    holds_interpreted(__file__)


@pytest.fixture
def by_triton(monkeypatch):
    """The models take the Triton kernels on whatever device they are."""
    for module in (blocks, levels, norm):
        monkeypatch.setattr(module, "uses_triton", lambda values, plain=False: not plain)


def draw(device, shape, seed, dtype, mean=0.0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + mean
    return values.to(device, dtype).contiguous(memory_format=LAST)


def laid(gradient, layout):
    """The same numbers in another layout: wider rows, channels first, or as they are."""
    if layout == "slice":
        wide = torch.cat([gradient, gradient, gradient], dim=1).contiguous(memory_format=LAST)
        return wide.narrow(1, gradient.shape[1], gradient.shape[1])
    return gradient.contiguous() if layout == "first" else gradient


def close(found, expected, dtype, size, of_types=2.0, of_float32=2e-5):
    """Rounding of the type where a number stands, and float32's on the way to it."""
    bound = of_types * torch.finfo(dtype).eps * expected.abs() + of_float32 * size
    excess = (found.double() - expected).abs() - bound
    assert float(excess.max()) <= 0, f"{float(excess.max())} beyond the bound"


def run(values, gradient, slope, weight, bias, side, inplace=False):
    """Output and gradients by name, through the functions themselves."""
    given = {"values": values, "weight": weight, "bias": bias, "side": side}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items() if tensor is not None}
    if weight is None and side is None:
        out = TritonNorm.apply(leaves["values"] * 1 if inplace else leaves["values"], None, slope, 1e-5, inplace)
    else:
        scale, shift, beside = (leaves.get(name) for name in ("weight", "bias", "side"))
        out = TritonAffineNorm.apply(leaves["values"], scale, shift, beside, None, slope, 1e-5)
    out.backward(gradient)
    return out.detach(), {name: leaf.grad for name, leaf in leaves.items()}


def exactly(values, gradient, slope, weight, bias, side, positive):
    """The same in float64, with the slope that the output's sign says: on the kink rounding decides it."""
    given = {"values": values, "weight": weight, "bias": bias, "side": side}
    leaves = {name: tensor.double().requires_grad_() for name, tensor in given.items() if tensor is not None}
    normal = functional.instance_norm(leaves["values"], weight=leaves.get("weight"), bias=leaves.get("bias"))
    before = normal + leaves["side"] if side is not None else normal
    local = gradient.double() * torch.where(positive, 1.0, slope)
    before.backward(local.contiguous())  # PyTorch 2.13 gives one channels-last sample a wrong gradient here
    return functional.leaky_relu(before.detach(), slope), {name: leaf.grad for name, leaf in leaves.items()}


@on_devices
@SETTINGS
@given(
    shapes, seeds, st.sampled_from(DTYPES), st.sampled_from([0.01, 0.3, 1.0]), st.booleans(), st.booleans(),
    st.sampled_from(["last", "first", "slice"]), st.floats(-3, 3), tiles,
)  # fmt: skip
def test_value_and_gradients_equal_float64(device, shape, seed, dtype, slope, affine, added, layout, mean, cut):
    values, gradient = draw(device, shape, seed, dtype, mean), draw(device, shape, seed + 1, dtype)
    weight, bias = ((draw(device, (shape[1], 2, 1, 1, 1), seed + 2, torch.float32)[:, at, 0, 0, 0] for at in (0, 1))
                    if affine else (None, None))  # fmt: skip
    side = draw(device, shape, seed + 3, dtype) if added else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_rows, "TILES", cut)
        out, grads = run(values, laid(gradient, layout), slope, weight, bias, side)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=LAST)
    expected, wanted = exactly(values, gradient, slope, weight, bias, side, out > 0)
    close(out, expected, dtype, max(1.0, float(expected.abs().max())))
    deviation = values.double().var((2, 3, 4), correction=0).add(1e-5).sqrt()
    gain = 1.0 if weight is None else float(weight.abs().max())
    normal = (
        (values.double() - values.double().mean((2, 3, 4), keepdim=True)) / deviation[..., None, None, None]
    ).abs()
    steep = float(gradient.abs().max()) * gain / deviation[..., None, None, None]
    # The kept output is rounded, and what is undone from it: a share of the normal voxel, times the mean product.
    kept = 0.0 if affine or added else 4 * torch.finfo(dtype).eps
    assert grads["values"].dtype == dtype
    assert grads["values"].is_contiguous(memory_format=LAST)
    size = (1e-4 + kept) / 1e-4 * steep * (1 + normal.amax().item() ** 2)
    close(grads["values"], wanted["values"], dtype, size, 2.0, 1e-4)
    for name in set(grads) - {"values"}:
        kind = torch.float32 if name in ("weight", "bias") else dtype
        size = float(gradient.abs().double().sum()) if kind == torch.float32 else float(gradient.abs().max())
        close(grads[name], wanted[name], kind, size, 2.0, 1e-5)


@on_devices
@SETTINGS
@given(shapes, seeds, st.floats(1, 1e4), st.sampled_from([-1, 1]), tiles)
def test_large_means_do_not_cancel(device, shape, seed, ratio, sign, cut):
    values = draw(device, shape, seed, torch.float32, sign * ratio)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_rows, "TILES", cut)
        out = TritonNorm.apply(values, None, 1.0, 1e-5, False)
    exact = functional.instance_norm(values.double())
    deviation = values.double().var((2, 3, 4), correction=0).add(1e-5).sqrt().min()
    # A float32 mean is off by a few units in its last place, seen from the deviation.
    bound = 4e-7 * (ratio + 4) / float(deviation) + 1e-5 * float(exact.abs().max())
    assert float((out.double() - exact).abs().max()) <= bound


@on_devices
@SETTINGS
@given(shapes, seeds, st.floats(1e2, 1e4), tiles)
def test_a_step_between_regions_keeps_its_variance(device, shape, seed, height, cut):
    values = draw(device, shape, seed, torch.float32)
    values[:, :, :, :, 1:] += height
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_rows, "TILES", cut)
        out = TritonNorm.apply(values, None, 1.0, 1e-5, False)
    exact = functional.instance_norm(values.double())
    assert float((out.double() - exact).abs().max()) <= 1e-4 * max(1.0, float(exact.abs().max()))


@on_devices
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [0.01, 1.0])
def test_the_same_bits_again_and_in_place(device, dtype, slope):
    values, gradient = (draw(device, (2, 9, 3, 5, 7), seed, dtype) for seed in (0, 1))
    first, again = (run(values, gradient, slope, None, None, None, inplace) for inplace in (False, True))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1]["values"], again[1]["values"])
    written = values.clone(memory_format=torch.preserve_format)
    assert TritonNorm.apply(written, None, slope, 1e-5, True).data_ptr() == written.data_ptr()


@on_devices
def test_a_nan_stays_in_its_channel(device):
    values = draw(device, (2, 5, 2, 3, 4), 0, torch.float32)
    values[1, 3, 0, 0, 0] = math.nan
    out = TritonNorm.apply(values, None, 0.01, 1e-5, False)
    lost = out.isnan().flatten(2)
    assert bool(lost[1, 3].all())
    lost[1, 3] = False
    assert not bool(lost.any())


@on_devices
@pytest.mark.parametrize("affine", [False, True])
def test_one_voxel_is_refused(device, by_triton, affine):
    module = InstanceNormLeakyReLU(3, affine=affine).to(device)
    with pytest.raises(UserError, match="more than one voxel"):
        module(torch.zeros(2, 3, 1, 1, 1, device=device))


@on_devices
def test_a_cancelled_bias_gets_no_gradient(device, by_triton):
    values, bias = draw(device, (1, 4, 2, 2, 3), 0, torch.float32), torch.ones(4, device=device, requires_grad=True)
    for affine in (False, True):
        bias.grad = None
        InstanceNormLeakyReLU(4, affine=affine).to(device)(values, bias).sum().backward()
        assert torch.equal(bias.grad, torch.zeros_like(bias))


def network(kind):
    return UNet(1, 1, 4, 2) if kind == "unet" else ResEncUNet(features=(4, 8, 12), blocks=(1, 2, 1))


@on_devices
@pytest.mark.parametrize("kind", ["unet", "resenc"])
def test_a_network_of_kernels_is_the_plain_network_in_float64(device, by_triton, monkeypatch, kind):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    model, exact = network(kind).to(device, memory_format=LAST), network(kind).to(device)
    exact.load_state_dict(model.state_dict())
    set_plain(exact.double())
    image = draw(device, (2, 1, 8, 4, 12), 1, torch.float32)
    laid_out = []
    for module in model.modules():
        if isinstance(module, blocks.ConvolutionNorm):
            module.register_forward_hook(lambda _, __, out: laid_out.append(out.is_contiguous(memory_format=LAST)))
    for net, shown in ((model, image), (exact, image.double())):
        answers = net(shown)
        first = answers[0] if isinstance(answers, list) else answers
        weights = torch.cos(torch.arange(first.numel(), device=device)).view(first.shape)
        (first * weights).sum().backward()
    assert laid_out
    assert all(laid_out)
    for (name, found), wanted in zip(model.named_parameters(), exact.parameters(), strict=True):
        if found.grad is None or name.endswith("convolution.bias"):
            continue
        assert float((found.grad - wanted.grad).abs().max()) <= 2e-3 * float(wanted.grad.abs().max()) + 1e-6, name
