"""One step: it learns, it clips, and a non-finite one stops before the update and says where."""

import math

import pytest
import torch
from torch import nn

from volumen.config.loss import CrossEntropy, Loss, Phase, SoftDice, Terms
from volumen.runtime import choose_precision
from volumen.training.objective import build_objective, phase_at, weights_at
from volumen.training.step import NonFiniteError, training_step

CPU = torch.device("cpu")


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(2, 8, 8, 8, generator=generator) > 0.8).to(torch.uint8)
    image = target[:, None].float() + 0.1 * torch.randn(2, 1, 8, 8, 8, generator=generator)
    return {"image": image, "target": target, "valid": torch.ones(2, 8, 8, 8, dtype=torch.bool), "case": ["a", "b"]}


def step(model, optimiser, data, clip=None, scaler=None):
    loss = Loss(terms=Terms(soft_dice=SoftDice(weight=0.7), cross_entropy=CrossEntropy(weight=0.3)))
    return training_step(
        model, build_objective(loss, 0), optimiser, data,
        precision=choose_precision("fp32", CPU), device=CPU, gradient_clip=clip, scaler=scaler,
    )  # fmt: skip


def test_steps_lower_the_loss_and_the_parts_add_up():
    torch.manual_seed(0)
    model = nn.Conv3d(1, 1, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    results = [step(model, optimiser, batch()) for _ in range(30)]
    assert results[-1].total < 0.7 * results[0].total
    for result in results:
        assert result.total == pytest.approx(sum(result.weighted.values()), rel=1e-6)
        assert result.weighted["soft_dice"] == pytest.approx(0.7 * result.raw["soft_dice"], rel=1e-6)
    assert results[0].valid == 2 * 8**3
    assert results[0].true == int(batch()["target"].sum())


def test_the_gradient_is_clipped_to_the_limit_and_the_norm_is_the_one_before():
    torch.manual_seed(0)
    model = nn.Conv3d(1, 1, 1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    result = step(model, torch.optim.SGD(model.parameters(), lr=1.0), batch(), clip=1e-3)
    moved = torch.stack([(a.detach() - b).norm() for a, b in zip(model.parameters(), before, strict=True)]).norm()
    assert result.clipped
    assert result.gradient_norm > 1e-3
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)


def test_a_non_finite_loss_stops_before_the_update_and_names_term_and_cases():
    model = nn.Conv3d(1, 1, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = batch()
    data["image"][0, 0, 3, 3, 3] = float("nan")
    with pytest.raises(NonFiniteError, match=r"term .*soft_dice.*cross_entropy.*patches of a, b"):
        step(model, torch.optim.SGD(model.parameters(), lr=1.0), data)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_non_finite_gradient_stops_before_the_update_and_names_the_parameter():
    model = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1))
    model[0].weight.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NonFiniteError, match=r"first in 0\.weight"):
        step(model, torch.optim.SGD(model.parameters(), lr=1.0), batch())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("fault", ["image", "gradient"])
def test_a_loss_scaler_answers_gradients_and_forgets_a_loss_that_was_not_finite(fault):
    model = nn.Conv3d(1, 1, 1)
    optimiser, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=8.0)
    before, data = {name: value.clone() for name, value in model.state_dict().items()}, batch()
    hook = model.weight.register_hook(lambda gradient: gradient * (math.inf if fault == "gradient" else 1.0))
    if fault == "image":
        data["image"][0, 0, 3, 3, 3] = math.nan
        with pytest.raises(NonFiniteError, match="the loss is not finite"):
            step(model, optimiser, data, scaler=scaler)
    else:
        assert not math.isfinite(step(model, optimiser, data, scaler=scaler).gradient_norm)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert scaler.get_scale() == (8.0 if fault == "image" else 4.0)
    hook.remove()
    step(model, optimiser, batch(), scaler=scaler)
    assert not torch.equal(model.weight, before["weight"])


def test_a_bad_gradient_is_named_though_others_are_clipped_with_it():
    model = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1))
    model[1].bias.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(NonFiniteError, match=r"the gradient is nan, first in 1\.bias"):
        step(model, torch.optim.SGD(model.parameters(), lr=1.0), batch(), clip=1.0)


def test_curriculum_phases_change_the_objective():
    loss = Loss(
        terms=Terms(soft_dice=SoftDice(weight=0.75), cross_entropy=CrossEntropy(weight=0.25)),
        curriculum=(Phase(name="dice", start_epoch=0, weights={"soft_dice": 1.0}),
                    Phase(name="all", start_epoch=50, weights={"soft_dice": 0.75, "cross_entropy": 0.15})),
    )  # fmt: skip
    assert weights_at(loss, 0) == {"soft_dice": 1.0, "cross_entropy": 0.0}
    assert weights_at(loss, 49) == {"soft_dice": 1.0, "cross_entropy": 0.0}
    assert weights_at(loss, 50) == {"soft_dice": 0.75, "cross_entropy": 0.15}
    assert phase_at(loss.model_copy(update={"curriculum": ()}), 3) is None
    logits = torch.zeros(1, 1, 8, 8, 8)
    data = batch()
    breakdown = build_objective(loss, 0)(logits, data["target"][:1], data["valid"][:1])
    assert set(breakdown.raw) == {"soft_dice"}  # a term of weight 0 is not computed
