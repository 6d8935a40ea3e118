"""The composite objective: what is computed, what is reported, deep supervision."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from volumen.errors import UserError
from volumen.losses import TERMS, CompositeLoss, LossInputs, Term
from volumen.losses.composite import coarsen


@dataclass(frozen=True, kw_only=True)
class Explodes(Term):
    requires: ClassVar[tuple[str, ...]] = ("never_made",)

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        raise AssertionError("a term of weight 0 was computed")


def scene(size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, size, size, size, generator=generator, dtype=torch.float64)
    target = torch.zeros(2, size, size, size, dtype=torch.uint8)
    target[:, 5] = 1
    target[:, 9:11] = 1
    valid = torch.rand(target.shape, generator=generator) > 0.3
    return logits, target, valid


def test_weight_zero_is_not_computed():
    logits, target, valid = scene()
    objective = CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]()), "explodes": (0.0, Explodes())})
    breakdown = objective(logits, target, valid)
    assert list(breakdown.raw) == list(breakdown.weighted) == ["soft_dice"]
    assert objective.requires == ()
    with pytest.raises(AssertionError, match="was computed"):
        CompositeLoss({"explodes": (1e-9, Explodes())})(logits, target, valid)


def test_requires_is_the_union_without_repeats():
    objective = CompositeLoss(
        {
            "a": (1.0, TERMS["medial_recall"]()),
            "b": (1.0, TERMS["merge_penalty"]()),
            "c": (2.0, TERMS["medial_recall"]()),
            "d": (0.5, TERMS["soft_dice"]()),
        }
    )
    assert objective.requires == ("medial_surface", "sheet_gap")


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_bad_weights_are_refused(weight):
    with pytest.raises(UserError, match=r"loss term soft_dice: expected a finite weight of 0 or more"):
        CompositeLoss({"soft_dice": (weight, TERMS["soft_dice"]())})


@pytest.mark.parametrize("terms", [{}, {"soft_dice": (0.0, TERMS["soft_dice"]())}])
def test_an_objective_without_any_weight_is_refused(terms):
    with pytest.raises(UserError, match="at least one term of positive weight"):
        CompositeLoss(terms)


def test_gradient_is_the_weighted_sum_of_the_terms_gradients():
    logits, target, valid = scene()
    terms = {name: (0.5 + 0.25 * index, term()) for index, (name, term) in enumerate(TERMS.items())}
    leaf = logits.clone().requires_grad_()
    (together,) = torch.autograd.grad(CompositeLoss(terms)(leaf, target, valid).total, leaf)
    apart = torch.zeros_like(together)
    for weight, term in terms.values():
        apart += weight * torch.autograd.grad(term(leaf, target, valid), leaf)[0]
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-14)


def test_deep_supervision_weighs_levels_and_keeps_topology_at_the_finest():
    logits, target, valid = scene()
    levels = [logits, torch.nn.functional.avg_pool3d(logits, 2), torch.nn.functional.avg_pool3d(logits, (4, 2, 4))]
    dice, recall = TERMS["soft_dice"](), TERMS["medial_recall"]()
    breakdown = CompositeLoss({"dice": (2.0, dice), "recall": (0.5, recall)})(levels, target, valid)
    expected = torch.zeros((), dtype=torch.float64)
    for weight, level in zip((4 / 7, 2 / 7, 1 / 7), levels, strict=True):
        shape = level.shape[2:]
        coarse_target = coarsen((target == 1) & valid, shape).to(torch.uint8)
        expected += weight * dice(level, coarse_target, coarsen(valid, shape))
    torch.testing.assert_close(breakdown.raw["dice"], expected, rtol=1e-12, atol=1e-12)
    assert breakdown.raw["recall"] == recall(logits, target, valid)
    assert breakdown.total == sum(breakdown.weighted.values())


def test_one_level_in_a_list_is_the_tensor():
    logits, target, valid = scene()
    objective = CompositeLoss({"focal": (1.0, TERMS["focal"]()), "cldice": (1.0, TERMS["cldice"]())})
    assert objective([logits], target, valid).total == objective(logits, target, valid).total


def test_a_thin_sheet_survives_coarsening_and_an_ignored_one_does_not():
    target = torch.zeros(1, 8, 8, 8, dtype=torch.bool)
    target[:, 3] = True
    coarse = coarsen(target, (2, 4, 8))
    assert coarse.shape == (1, 2, 4, 8)
    assert coarse[:, 0].all()
    assert not coarse[:, 1].any()


def test_ignored_voxels_stay_ignored_on_every_level():
    logits, target, valid = scene()
    valid[:, :8] = False
    objective = CompositeLoss({"dice": (1.0, TERMS["soft_dice"]()), "entropy": (1.0, TERMS["cross_entropy"]())})

    def run(changed_logits: torch.Tensor, changed_target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        levels = [changed_logits.clone().requires_grad_(), changed_logits[:, :, ::2, ::2, ::2].clone().requires_grad_()]
        total = objective(levels, changed_target, valid).total
        return total, *torch.autograd.grad(total, levels)

    changed_logits, changed_target = logits.clone(), target.clone()
    changed_logits[:, :, :8] = 1e6
    changed_target[:, :8] = 1 - changed_target[:, :8]
    for first, second in zip(run(logits, target), run(changed_logits, changed_target), strict=True):
        assert torch.equal(first, second)
        assert first.ndim == 0 or (first[:, :, : first.shape[2] // 2] == 0).all()


def test_levels_that_do_not_divide_are_refused_with_the_fix():
    logits, target, valid = scene()
    objective = CompositeLoss({"dice": (1.0, TERMS["soft_dice"]())})
    with pytest.raises(ValueError, match=r"coarse sizes that divide \[16, 16, 16\], got \[5, 8, 8\].*patch size"):
        objective([logits, logits[:, :, :5, :8, :8]], target, valid)
    with pytest.raises(ValueError, match="at least one level"):
        objective([], target, valid)
