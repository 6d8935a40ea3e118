"""OpenVINO gives the network's own logits, for every network of the package, or says what to do."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from volumen.config.model import ResEncModel, UNetModel
from volumen.errors import UserError
from volumen.inference.engines import choose_engine
from volumen.inference.ensemble import Ensemble
from volumen.inference.predictor import Predictor
from volumen.models import build_model
from volumen.runtime import Precision

FP32, BF16 = Precision("fp32", "cpu"), Precision("bf16", "cpu")


def small(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "unet":
        return build_model(UNetModel(filters=4, depth=2))
    if kind == "resenc":
        return build_model(ResEncModel(size="S"))
    members = [build_model(UNetModel(filters=4, depth=2)) for _ in range(2)]
    return Ensemble(members, [0.3, 0.7], "logit" if kind == "logits" else "probability")


def logits(model: nn.Module, engine: str, precision: Precision, **changes) -> np.ndarray:
    image = np.random.default_rng(0).normal(size=(32, 40, 32)).astype(np.float32)
    predictor = Predictor(
        model, tile=(32, 32, 32), overlap=0.25, device="cpu", precision=precision, engine=engine, **changes
    )
    return predictor.logits(image)


@pytest.mark.parametrize("kind", ["unet", "resenc", "probabilities", "logits"])
def test_both_engines_give_the_same_logits(kind) -> None:
    model = small(kind)
    expected = logits(model, "torch", FP32)
    found = logits(model, "openvino", FP32)
    np.testing.assert_allclose(found, expected, atol=2e-3 * expected.std())
    rounded = logits(model, "openvino", BF16)
    assert np.abs(rounded - expected).mean() < 0.05 * expected.std()


def test_views_and_batches_are_the_same_too() -> None:
    model = small("unet")
    expected = logits(model, "torch", FP32, mirror=True, rotate=True, batch=2)
    found = logits(model, "openvino", FP32, mirror=True, rotate=True, batch=2)
    np.testing.assert_allclose(found, expected, atol=2e-3 * expected.std())


def test_compiling_leaves_the_model_as_it_was() -> None:
    model = small("unet")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits(model, "openvino", BF16)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert sys.modules["openvino_telemetry"] is None  # nothing is reported to anybody


def test_what_it_cannot_do_is_said() -> None:
    class Several(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([images, images], dim=1)

    with pytest.raises(UserError, match="one logit per voxel"):
        logits(Several(), "openvino", FP32)
    with pytest.raises(UserError, match="computes on the CPU"):
        choose_engine("openvino", "cuda")
    assert choose_engine("auto", "cpu") == "openvino"
    assert choose_engine("auto", "cuda") == "torch"
    assert choose_engine("torch", "cpu") == "torch"


def test_without_openvino_auto_takes_torch_and_a_wish_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_engine("auto", "cpu") == "torch"
    with pytest.raises(UserError, match="pip install"):
        choose_engine("openvino", "cpu")
