"""Closed-form values of the loss terms."""

import math

import pytest
import torch

from volumen.errors import UserError
from volumen.losses import TERMS

SURE = 60.0


def plates(thickness: int = 3, period: int = 8, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat sheets along z through the whole volume, everything valid."""
    target = torch.zeros(1, size, 12, 12, dtype=torch.uint8)
    for start in range(2, size, period):
        target[:, start : start + thickness] = 1
    return target, torch.ones_like(target, dtype=torch.bool)


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    return torch.logit(probability.double()).unsqueeze(1)


def perfect(target: torch.Tensor) -> torch.Tensor:
    return (SURE * (2.0 * target.double() - 1)).unsqueeze(1)


def constant(target: torch.Tensor, probability: float) -> torch.Tensor:
    return logits_of(torch.full(target.shape, probability, dtype=torch.float64))


@pytest.mark.parametrize(
    "name",
    ["soft_dice", "focal", "cross_entropy", "boundary", "cldice", "connectivity", "medial_recall", "merge_penalty"],
)
def test_perfect_prediction_costs_nothing(name):
    target, valid = plates()
    assert TERMS[name]()(perfect(target), target, valid).item() == pytest.approx(0, abs=1e-12)
    assert TERMS[name]()(-perfect(target), target, valid).item() > 0.49


def test_regularisers_at_the_perfect_prediction():
    target, valid = plates()
    share = target.double().mean().item()
    assert TERMS["variance"]()(perfect(target), target, valid).item() == pytest.approx(
        (1 - share * (1 - share)) ** 2, abs=1e-12
    )
    assert TERMS["entropy"]()(perfect(target), target, valid).item() == pytest.approx(0.5, abs=1e-12)


def test_soft_dice_of_constant_predictions():
    target, valid = plates()
    share = target.double().mean().item()
    term = TERMS["soft_dice"](smooth=1e-9)
    all_surface = term(constant(target, 0.5) + SURE, target, valid).item()
    assert all_surface == pytest.approx(1 - 2 * share / (1 + share), abs=1e-9)
    half = term(constant(target, 0.5), target, valid).item()
    assert half == pytest.approx(1 - 2 * 0.5 * share / (0.5 + share), abs=1e-9)


def test_cross_entropy_and_focal_at_one_half():
    target, valid = plates()
    share = target.double().mean().item()
    logits = constant(target, 0.5)
    assert TERMS["cross_entropy"]()(logits, target, valid).item() == pytest.approx(math.log(2), abs=1e-12)
    assert TERMS["focal"](gamma=2.0)(logits, target, valid).item() == pytest.approx(math.log(2) / 4, abs=1e-12)
    assert TERMS["focal"](gamma=1.5)(logits, target, valid).item() == pytest.approx(math.log(2) / 2**1.5, abs=1e-12)
    weighted = share * 3.0 + (1 - share) * 0.5
    for term in (
        TERMS["cross_entropy"](surface_weight=3.0, background_weight=0.5),
        TERMS["focal"](gamma=0.0, surface_weight=3.0, background_weight=0.5),
    ):
        assert term(logits, target, valid).item() == pytest.approx(weighted * math.log(2), abs=1e-12)
    balanced = TERMS["focal"](gamma=0.0, alpha=0.75, surface_weight=2.0)(logits, target, valid).item()
    assert balanced == pytest.approx((share * 0.75 * 2 + (1 - share) * 0.25) * math.log(2), abs=1e-12)


def test_class_weights_belong_to_the_true_class():
    target, valid = plates()
    term = TERMS["cross_entropy"](surface_weight=5.0, background_weight=1.0)
    missed_surface = constant(target, 0.1)
    false_surface = constant(target, 0.9)
    share = target.double().mean().item()
    cost = -math.log(0.1), -math.log(0.9)
    assert term(missed_surface, target, valid).item() == pytest.approx(5 * share * cost[0] + (1 - share) * cost[1])
    assert term(false_surface, target, valid).item() == pytest.approx(5 * share * cost[1] + (1 - share) * cost[0])


def test_the_class_weighted_optimum_is_where_theory_puts_it():
    # Among constants, weighted cross-entropy is least at p = w1 pi / (w1 pi + w0 (1 - pi)).
    target, valid = plates()
    share = target.double().mean().item()
    term = TERMS["cross_entropy"](surface_weight=3.0, background_weight=2.0)
    best = 3 * share / (3 * share + 2 * (1 - share))
    values = [term(constant(target, best + step), target, valid).item() for step in (-0.02, 0.0, 0.02)]
    assert values[1] < min(values[0], values[2])


def test_variance_floor_and_entropy_hinge():
    target, valid = plates()
    halves = torch.zeros(target.shape, dtype=torch.float64)
    halves[:, :, ::2] = 1
    saturated = (SURE * (2 * halves - 1)).unsqueeze(1)
    assert TERMS["variance"]()(saturated, target, valid).item() == pytest.approx(0.5625, abs=1e-12)
    assert TERMS["variance"]()(constant(target, 0.3), target, valid).item() == pytest.approx(1.0, abs=1e-12)
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert entropy > 0.5
    mixed = logits_of(0.2 + 0.6 * halves)
    assert TERMS["entropy"]()(mixed, target, valid).item() == 0
    sure = logits_of(0.1 + 0.8 * halves)
    expected = 0.5 + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    assert TERMS["entropy"]()(sure, target, valid).item() == pytest.approx(expected, abs=1e-12)
    # The plan's regulariser, both parts: half the voxels at 0.8, half at 0.2, is about as low as it gets.
    both = TERMS["variance"]()(mixed, target, valid) + TERMS["entropy"]()(mixed, target, valid)
    assert both.item() == pytest.approx(0.8281, abs=1e-4)


@pytest.mark.parametrize(
    ("distance", "weight"), [(0.5, 1.0), (2.5, 1.0), (3.5, 0.75), (4.5, 0.25), (5.5, 0.0), (6.5, 0.0)]
)
def test_boundary_weight_fades_with_the_distance(distance, weight):
    target = torch.zeros(1, 16, 5, 5, dtype=torch.uint8)
    target[:, 8:] = 1
    valid = torch.ones_like(target, dtype=torch.bool)
    total = 2 * 25 * (3 * 1.0 + 0.75 + 0.25)
    for layer in (8 + int(distance), 7 - int(distance)):
        logits = perfect(target)
        logits[:, :, layer, 2, 2] = 0  # one voxel undecided: its cross-entropy is ln 2
        value = TERMS["boundary"]()(logits, target, valid).item()
        assert value == pytest.approx(weight * math.log(2) / total, abs=1e-12)


def test_the_rim_of_the_labelled_region_is_no_boundary():
    target = torch.ones(1, 12, 6, 6, dtype=torch.uint8)
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[:, :6] = False
    logits = torch.full((1, 1, 12, 6, 6), 0.3, requires_grad=True)
    value = TERMS["boundary"]()(logits, target, valid)
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


def test_connectivity_forgives_a_narrow_break_but_not_a_wide_one():
    target, valid = plates(thickness=1)
    narrow, wide = perfect(target), perfect(target)
    narrow[..., 5] = -SURE
    wide[..., 4:9] = -SURE
    assert TERMS["connectivity"]()(narrow, target, valid).item() == pytest.approx(0, abs=1e-12)
    sheets = 3
    missing = sheets * 3 * 12 * 3  # of the 5 columns, those with no neighbour left, in the 3 layers a sheet reaches
    assert TERMS["connectivity"]()(wide, target, valid).item() == pytest.approx(missing / target.numel(), abs=1e-12)
    assert TERMS["connectivity"](radius=3)(wide, target, valid).item() == pytest.approx(0, abs=1e-12)


def test_medial_recall_is_the_mean_miss_on_the_middle_layer():
    target, valid = plates(thickness=3)
    middle_missing = perfect(target)
    middle_missing[:, :, 3, :6] = -SURE  # half of the middle layer of one of three sheets
    assert TERMS["medial_recall"]()(middle_missing, target, valid).item() == pytest.approx(1 / 6, abs=1e-12)
    faces_missing = perfect(target)
    faces_missing[:, :, 2] = -SURE
    assert TERMS["medial_recall"]()(faces_missing, target, valid).item() == pytest.approx(0, abs=1e-12)
    assert TERMS["medial_recall"]()(constant(target, 0.3), target, valid).item() == pytest.approx(0.7, abs=1e-12)


def test_merge_penalty_sees_a_bridge_and_only_in_narrow_gaps():
    target, valid = plates(thickness=3, period=6)  # gaps of 3 voxels; the outermost voxels of the volume are left out
    bridged = perfect(target)
    bridged[:, :, 5:8, 6, 6] = SURE
    in_gaps = 3 * 10 * 10  # middle layers 6, 12 and 18
    assert TERMS["merge_penalty"]()(bridged, target, valid).item() == pytest.approx(SURE / in_gaps, rel=1e-9)
    assert TERMS["merge_penalty"](widest_gap=2)(bridged, target, valid).item() == 0
    assert TERMS["merge_penalty"](widest_gap=3)(constant(target, 0.5), target, valid).item() == pytest.approx(
        math.log(2), abs=1e-12
    )
    # Dice hardly notices what the penalty names.
    assert TERMS["soft_dice"]()(bridged, target, valid).item() < 0.002


def test_signed_distance_is_zero_at_its_own_target_and_crosses_at_the_boundary():
    target = torch.zeros(1, 16, 4, 4, dtype=torch.uint8)
    target[:, 8:] = 1
    valid = torch.ones_like(target, dtype=torch.bool)
    signed = (torch.arange(16, dtype=torch.float64) - 7.5) / 3
    wanted = (signed.clamp(-1, 1) * (1 - 1e-12)).view(1, 1, 16, 1, 1).expand(1, 1, 16, 4, 4)
    assert TERMS["signed_distance"]()(2 * torch.atanh(wanted), target, valid).item() == pytest.approx(0, abs=1e-12)
    undecided = torch.zeros(1, 1, 16, 4, 4, dtype=torch.float64)
    expected = signed.clamp(-1, 1).square().mean().item()
    assert TERMS["signed_distance"]()(undecided, target, valid).item() == pytest.approx(expected, abs=1e-12)


def test_cldice_of_a_plate_by_hand():
    target, valid = plates(thickness=3, period=100)
    term = TERMS["cldice"](iterations=2, smooth=1e-9)
    doubled = torch.zeros_like(target)
    doubled[:, 2:5] = 1
    doubled[:, 12:15] = 1  # a second, false sheet of the same size: precision 1/2, sensitivity 1
    assert term(perfect(doubled), target, valid).item() == pytest.approx(1 - 2 * 0.5 / 1.5, abs=1e-9)
    assert term(perfect(0 * target), target, valid).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("soft_dice", {"smooth": 0.0}),
        ("focal", {"gamma": -1.0}),
        ("focal", {"alpha": 1.5}),
        ("focal", {"surface_weight": -1.0}),
        ("cross_entropy", {"background_weight": float("nan")}),
        ("entropy", {"minimum": 0.7}),
        ("boundary", {"full_within": 5.0, "zero_from": 5.0}),
        ("cldice", {"iterations": 0}),
        ("connectivity", {"radius": 0}),
        ("signed_distance", {"reach": 0.0}),
        ("merge_penalty", {"widest_gap": 0}),
    ],
)
def test_parameters_out_of_range_are_refused_with_the_fix(name, parameters):
    with pytest.raises(UserError, match=r"expected .*, got .*: change it"):
        TERMS[name](**parameters)
