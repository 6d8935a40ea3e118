"""Checkpoints go from one machine to another: what belongs to a device stays there."""

import ast
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import volumen
from volumen.training.moving import MACHINES, load_optimiser

SOURCE = Path(volumen.__file__).resolve().parent


def optimiser_of(kind: str, **how: bool) -> torch.optim.Optimizer:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **how)
    return torch.optim.AdamW(model.parameters(), lr=0.1, **how)


def step(optimiser: torch.optim.Optimizer) -> None:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.full_like(parameter, 0.5)
    optimiser.step()


HOW = st.sampled_from([{}, {"foreach": True}, {"foreach": False}, {"fused": True}])


@settings(max_examples=30)
@given(
    kind=st.sampled_from(["sgd", "adamw"]), before=HOW, after=HOW, steps=st.integers(0, 3), rate=st.floats(1e-4, 1.0)
)
def test_the_moments_come_along_and_how_it_computes_does_not(
    kind: str, before: dict[str, bool], after: dict[str, bool], steps: int, rate: float
) -> None:
    source, target = optimiser_of(kind, **before), optimiser_of(kind, **after)
    source.param_groups[0]["lr"] = rate
    for _ in range(steps):
        step(source)
    own = {name: target.param_groups[0][name] for name in MACHINES if name in target.param_groups[0]}
    load_optimiser(target, source.state_dict())
    assert {name: target.param_groups[0][name] for name in own} == own
    assert target.param_groups[0]["lr"] == rate
    for one, other in zip(source.state.values(), target.state.values(), strict=True):
        assert {name: torch.as_tensor(value).tolist() for name, value in one.items() if value is not None} == {
            name: torch.as_tensor(value).tolist() for name, value in other.items() if value is not None
        }
    step(target)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in target.param_groups[0]["params"])


def test_a_checkpoint_of_another_optimiser_is_still_refused() -> None:
    target, saved = optimiser_of("sgd"), optimiser_of("sgd").state_dict()
    with pytest.raises(ValueError, match="parameter group"):
        load_optimiser(target, {**saved, "param_groups": saved["param_groups"] * 2})


def test_whatever_is_loaded_is_loaded_to_a_named_device() -> None:
    """PyTorch puts tensors on the device that they were saved from, which this machine may not have."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.jit.load"):
                found.append(path.name)
                assert any(keyword.arg == "map_location" for keyword in node.keywords), f"{path}:{node.lineno}"
    assert found


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_moments_move_to_the_weights_device(kind: str) -> None:
    def on(device: str) -> torch.optim.Optimizer:
        parameter = torch.nn.Parameter(torch.ones(5, device=device))
        fused = {"fused": True} if device == "cuda" else {}
        return (torch.optim.SGD([parameter], lr=0.1, momentum=0.9, **fused) if kind == "sgd"
                else torch.optim.AdamW([parameter], lr=0.1, **fused))  # fmt: skip

    for source, target in ((on("cuda"), on("cpu")), (on("cpu"), on("cuda"))):
        step(source)
        load_optimiser(target, source.state_dict())
        step(target)
        step(source)
        one, other = (each.param_groups[0]["params"][0].detach().cpu() for each in (source, target))
        assert torch.isfinite(one).all()
        assert torch.isfinite(other).all()
