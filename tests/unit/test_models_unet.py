"""The networks: parameter counts, logits, sizes, first loss, the same on every path, and that they learn."""

import io
import math

import pytest
import torch
from torch.nn import functional

from volumen.config.model import MonaiModel, ResEncModel, UNetModel
from volumen.errors import UserError
from volumen.models import RESENC_SIZES, ResEncUNet, UNet, build_model, count_parameters, set_plain

LAST = torch.channels_last_3d


def image(side=16, samples=1, seed=0):
    return torch.randn(samples, 1, side, side, side, generator=torch.Generator().manual_seed(seed))


def small(kind, prior=None):
    torch.manual_seed(0)
    if kind == "unet":
        return UNet(filters=8, depth=2, prior=prior)
    return ResEncUNet(features=(8, 16, 24), blocks=(1, 2, 1), prior=prior)


def first(output):
    return output[0] if isinstance(output, list) else output


def test_the_plans_network_has_exactly_its_parameters():
    assert count_parameters(UNet(in_channels=1, out_channels=1, filters=32, depth=4)) == 22_575_329


def test_a_closed_form_counts_the_parameters_of_every_size():
    """Two 3^3 convolutions a level on both sides, a 2^3 transposed convolution between levels, one 1^3 output."""
    for filters, depth, channels in ((8, 3, 1), (4, 1, 2), (6, 2, 1)):
        widths = [filters * 2**level for level in range(depth + 1)]
        expected = sum(27 * a * b + b for a, b in zip([channels, *widths[:-1]], widths, strict=True))
        expected += sum(27 * b * b + b for b in widths)
        expected += sum(8 * 2 * b * b + b + 27 * 2 * b * b + b + 27 * b * b + b for b in widths[:-1])
        assert count_parameters(UNet(channels, 1, filters, depth)) == expected + filters + 1


def test_resenc_m_is_the_published_network():
    size = RESENC_SIZES["M"]
    assert size.features == (32, 64, 128, 256, 320, 320)
    assert size.blocks == (1, 3, 4, 6, 6, 6)
    with torch.device("meta"):
        model = ResEncUNet(1, 1, size.features, size.blocks)
    assert model.divisor == (32, 32, 32)
    assert [len(stage) for stage in model.encoders] == [1, 3, 4, 6, 6, 6]


def test_the_networks_give_logits_not_probabilities():
    for kind in ("unet", "resenc"):
        model = small(kind).eval()
        with torch.no_grad():
            model.output.weight.mul_(1000) if kind == "unet" else model.outputs[-1].weight.mul_(1000)
            logits = model(image())
        assert logits.shape == (1, 1, 16, 16, 16)
        assert float(logits.min()) < -1
        assert float(logits.max()) > 2


def test_deep_supervision_gives_a_list_in_training_finest_first_and_one_tensor_otherwise():
    model = small("resenc").train()
    outputs = model(image(16, samples=2))
    assert [list(output.shape) for output in outputs] == [[2, 1, 16, 16, 16], [2, 1, 8, 8, 8]]
    with torch.no_grad():
        finest = model.eval()(image(16, samples=2))
    torch.testing.assert_close(finest, outputs[0].detach(), rtol=1e-4, atol=1e-5)
    plain = ResEncUNet(features=(8, 16), blocks=(1, 1), deep_supervision=False).train()
    assert plain(image()).shape == (1, 1, 16, 16, 16)


@pytest.mark.parametrize("kind", ["unet", "resenc"])
def test_the_first_loss_is_that_of_the_best_constant(kind):
    prior = 0.07
    logits = first(small(kind, prior=prior).train()(image(32)))
    target = (torch.rand(logits.shape, generator=torch.Generator().manual_seed(3)) < prior).float()
    loss = float(functional.binary_cross_entropy_with_logits(logits, target).detach())
    entropy = -(prior * math.log(prior) + (1 - prior) * math.log(1 - prior))
    assert loss == pytest.approx(entropy, abs=0.02)
    with pytest.raises(UserError, match="between 0 and 1"):
        small(kind, prior=1.0)


@pytest.mark.parametrize("kind", ["unet", "resenc"])
@pytest.mark.parametrize("samples", [1, 2])
def test_the_compiled_path_equals_the_plain_one(kind, samples):
    """Value and gradient of every parameter against the same network in float64 by PyTorch's own operations."""
    model, exact = small(kind).train(), small(kind).train().double()
    model.load_state_dict(exact.state_dict())
    set_plain(exact)
    x = image(16, samples)
    ours, theirs = first(model(x)), first(exact(x.double()))
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5))
    (ours * weights).sum().backward()
    (theirs * weights.double()).sum().backward()
    for (name, got), (_, expected) in zip(model.named_parameters(), exact.named_parameters(), strict=True):
        if got.grad is None:
            assert expected.grad is None, name
            continue
        if name.endswith("convolution.bias"):
            # Before an instance norm a bias has no effect: ours is zero, the plain one rounding noise.
            assert torch.equal(got.grad, torch.zeros_like(got)), name
            assert float(expected.grad.abs().max()) < 1e-9, name
            continue
        scale = float(expected.grad.abs().max())
        assert float((got.grad.double() - expected.grad).abs().max()) < 2e-4 * scale, name


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_the_memory_format_does_not_change_the_answer(layout):
    model = small("unet").eval()
    x = image()
    with torch.inference_mode():
        expected = model(x)
        got = model.to(memory_format=layout)(x.to(memory_format=layout))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_stays_near_float32():
    model = small("unet").train()
    x = image()
    expected = model(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = model(x)
    got.float().sum().backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in model.parameters())
    assert float((got.float() - expected).abs().max().detach()) < 0.05 * float(expected.std()) + 0.05


def test_flips_of_the_input_flip_a_symmetric_network():
    model = small("unet").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 5:
                parameter.copy_((parameter + parameter.flip(2)) / 2)
        x = image()
        torch.testing.assert_close(model(x.flip(2)), model(x).flip(2), rtol=1e-4, atol=1e-5)


def test_wrong_sizes_are_refused_with_the_fix():
    model = UNet(filters=4, depth=3)
    assert model.divisor == (8, 8, 8)
    with pytest.raises(UserError, match=r"\[20, 16, 16\].*pad your patch to \[24, 16, 16\]"):
        model(torch.zeros(1, 1, 20, 16, 16))
    with pytest.raises(UserError, match=r"takes \[batch, 1, z, y, x\], got \[1, 2, 16, 16, 16\]"):
        model(torch.zeros(1, 2, 16, 16, 16))
    with pytest.raises(UserError, match="one voxel at the coarsest level"):
        model(torch.zeros(1, 1, 8, 8, 8))
    assert model(torch.zeros(1, 1, 8, 16, 8)).shape == (1, 1, 8, 16, 8)


@pytest.mark.parametrize("kind", ["unet", "resenc"])
def test_a_network_learns_a_sheet(kind):
    model = small(kind, prior=0.125).train()
    x = image(16, seed=4) * 0.5
    target = torch.zeros(1, 1, 16, 16, 16)
    target[:, :, 6:8] = 1
    x = x + target
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = functional.binary_cross_entropy_with_logits(first(model(x)), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tracing_takes_the_plain_path_and_gives_the_same_logits():
    model, x = small("unet").eval(), image()
    traced = torch.jit.trace(model, x, check_trace=False)
    kinds = {node.kind() for node in traced.inlined_graph.nodes()}
    assert "aten::instance_norm" in kinds
    assert "prim::PythonOp" not in kinds
    with torch.no_grad():
        torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_export_takes_the_plain_path():
    model, x = small("unet").eval(), image()
    program = torch.export.export(model, (x,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_state_survives_saving():
    model = small("resenc")
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    other = ResEncUNet(features=(8, 16, 24), blocks=(1, 2, 1))
    other.load_state_dict(torch.load(stream, weights_only=True))
    with torch.no_grad():
        assert torch.equal(other.eval()(image()), model.eval()(image()))


def test_the_configuration_builds_each_kind():
    unet = build_model(UNetModel(filters=4, depth=2), prior=0.1)
    assert isinstance(unet, UNet)
    assert float(unet.output.bias.detach()) == pytest.approx(math.log(0.1 / 0.9))
    resenc = build_model(ResEncModel(size="S", deep_supervision=False))
    assert isinstance(resenc, ResEncUNet)
    assert resenc.divisor == (8, 8, 8)


def test_monai_networks_keep_the_contract():
    pytest.importorskip("monai.networks.nets", reason="the extra monai is not installed")
    model = build_model(MonaiModel(name="SegResNet", arguments={"init_filters": 8}, divisor=8))
    assert model.divisor == (8, 8, 8)
    assert model(image()).shape == (1, 1, 16, 16, 16)
    with pytest.raises(UserError, match="pad your patch to"):
        model(torch.zeros(1, 1, 12, 16, 16))
    with pytest.raises(UserError, match="no network 'SegRestNet'"):
        build_model(MonaiModel(name="SegRestNet"))
    with pytest.raises(UserError, match=r"does not take model\.arguments"):
        build_model(MonaiModel(name="SegResNet", arguments={"nonsense": 1}))
    classifier = MonaiModel(name="EfficientNetBN", arguments={"model_name": "efficientnet-b0"}, divisor=8)
    with pytest.raises(UserError, match="does not take"):
        build_model(classifier)


def test_a_network_that_does_not_segment_is_named():
    pytest.importorskip("monai.networks.nets", reason="the extra monai is not installed")
    from volumen.models.build import MonaiNetwork

    halving = torch.nn.Conv3d(1, 1, 2, stride=2)
    model = MonaiNetwork(halving, name="Halving", in_channels=1, out_channels=1, divisor=2)
    with pytest.raises(UserError, match=r"Halving gave \[1, 1, 4, 4, 4\] where logits of shape \[1, 1, 8, 8, 8\]"):
        model(image(8))


def test_missing_monai_is_said_with_the_fix(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setitem(sys.modules, "monai.networks", None)
    with pytest.raises(UserError, match=r"pip install 'volumen\[monai\]'"):
        build_model(MonaiModel(name="SegResNet"))
