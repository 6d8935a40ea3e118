"""Laws that every loss term obeys, one tester for the whole table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from volumen.losses import TERMS, CompositeLoss

SHAPE = (10, 9, 8)
EVERY_TERM = pytest.mark.parametrize("name", list(TERMS))

# Flat at some starts by their own definition; see `test_regularisers_are_flat_where_they_say`.
FLAT_AT_CONSTANT = {"variance", "entropy"}
FLAT_AT_SMALL_LOGITS = {"entropy"}


def make_term(name: str):
    # A hinge that acts at once, so that the laws are tested on an entropy that has a gradient.
    return TERMS[name](minimum=0.69) if name == "entropy" else TERMS[name]()


def scene(seed: int, ignored_share: float = 0.3, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Two tilted sheets with a narrow gap, logits in float64 with distinct values, scattered ignored voxels."""
    generator = np.random.default_rng(seed)
    z, y, _ = np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij")
    height = z + generator.integers(0, 2) * (y // 3)
    target = np.stack([((height - shift) % 5 < 2) for shift in range(batch)]).astype(np.uint8)
    valid = generator.random(target.shape) >= ignored_share
    logits = generator.normal(size=(batch, 1, *SHAPE))
    return torch.from_numpy(logits), torch.from_numpy(target), torch.from_numpy(valid)


def value_and_gradient(term, logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = term(leaf, target, valid)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def same_bits(first: Tensor, second: Tensor) -> bool:
    return first.numpy().tobytes() == second.numpy().tobytes()


@EVERY_TERM
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    ignored_share=st.sampled_from([0.05, 0.5, 0.95]),
    noise=st.sampled_from([1.0, 1e4, float("inf"), float("nan")]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_ignored_voxels_change_neither_value_nor_gradient(name, seed, ignored_share, noise, dtype):
    logits, target, valid = scene(seed, ignored_share)
    logits = logits.to(dtype)
    ignored = ~valid
    scramble = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).to(dtype) * noise
    other_logits = torch.where(ignored.unsqueeze(1), scramble, logits)
    other_target = torch.where(ignored, torch.randint(0, 256, target.shape).to(torch.uint8), target)
    value, gradient = value_and_gradient(make_term(name), logits, target, valid)
    other_value, other_gradient = value_and_gradient(make_term(name), other_logits, other_target, valid)
    assert same_bits(value, other_value)
    assert same_bits(gradient[valid.unsqueeze(1)], other_gradient[valid.unsqueeze(1)])
    assert (gradient[ignored.unsqueeze(1)] == 0).all()
    assert (other_gradient[ignored.unsqueeze(1)] == 0).all()


@EVERY_TERM
@pytest.mark.parametrize("magnitude", [1.0, 1e4])
def test_nothing_valid_is_zero_with_zero_gradient(name, magnitude):
    logits, target, valid = scene(0)
    value, gradient = value_and_gradient(make_term(name), logits * magnitude, target, torch.zeros_like(valid))
    assert value == 0
    assert (gradient == 0).all()


@EVERY_TERM
def test_a_sample_without_labels_changes_nothing_for_the_others(name):
    logits, target, valid = scene(1, batch=1)
    value, gradient = value_and_gradient(make_term(name), logits, target, valid)
    both = value_and_gradient(
        make_term(name), torch.cat([logits, 3 * logits]), target.repeat(2, 1, 1, 1), torch.cat([valid, valid & False])
    )
    torch.testing.assert_close(both[0], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(both[1][:1], gradient, rtol=1e-12, atol=1e-12)


@EVERY_TERM
@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_flips_commute_with_value_and_gradient(name, axis, tied):
    logits, target, valid = scene(2)
    if tied:
        logits = logits.round()  # many equal values: the gradient at ties must not depend on the scan order either
    value, gradient = value_and_gradient(make_term(name), logits, target, valid)
    flipped = value_and_gradient(make_term(name), logits.flip(axis + 1), target.flip(axis), valid.flip(axis))
    torch.testing.assert_close(flipped[0], value, rtol=0, atol=1e-6)
    torch.testing.assert_close(flipped[1].flip(axis + 1), gradient, rtol=0, atol=1e-9)
    assert gradient.abs().max() > 1e-6


@EVERY_TERM
def test_gradient_is_exact(name):
    logits, target, valid = scene(3, batch=1)
    crop = (..., slice(0, 7), slice(0, 5), slice(0, 4))
    term = make_term(name)
    leaf = logits[crop].clone().requires_grad_()
    target, valid = target[crop], valid[crop]
    assert torch.autograd.gradcheck(lambda x: term(x, target, valid), leaf, eps=1e-6, atol=1e-6, rtol=1e-4)
    assert torch.autograd.grad(term(leaf, target, valid), leaf)[0].abs().max() > 1e-6


@EVERY_TERM
@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_gradient_lives_at_the_start_of_training(name, spread):
    logits, target, valid = scene(4)
    value, gradient = value_and_gradient(TERMS[name](), (spread * logits).float(), target, valid)
    assert value.isfinite()
    assert gradient.isfinite().all()
    flat = name in (FLAT_AT_SMALL_LOGITS if spread else FLAT_AT_CONSTANT)
    assert (gradient.abs().max() > 0).item() is not flat


def test_regularisers_are_flat_where_they_say():
    logits, target, valid = scene(5)
    # Var p is stationary at a constant prediction; the entropy hinge is inactive above its minimum.
    assert (value_and_gradient(TERMS["variance"](), 0 * logits + 0.7, target, valid)[1].abs() < 1e-15).all()
    assert value_and_gradient(TERMS["variance"](), logits, target, valid)[1].abs().max() > 1e-5
    assert (value_and_gradient(TERMS["entropy"](), 0.1 * logits, target, valid)[1] == 0).all()
    assert value_and_gradient(TERMS["entropy"](), 5 * logits, target, valid)[1].abs().max() > 1e-5


@EVERY_TERM
def test_large_logits_stay_finite(name):
    logits, target, valid = scene(6)
    value, gradient = value_and_gradient(make_term(name), (1e4 * logits).float(), target, valid)
    assert value.isfinite()
    assert gradient.isfinite().all()


@EVERY_TERM
def test_half_precision_is_computed_in_float32_and_float64_stays(name):
    logits, target, valid = scene(7)
    term = make_term(name)
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(term, half, target, valid)
    assert value.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    assert same_bits(value, term(half.float(), target, valid))
    exact = term(half.double(), target, valid)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(value.double(), exact, rtol=2e-6, atol=2e-6)


@EVERY_TERM
def test_memory_layout_does_not_matter(name):
    logits, target, valid = scene(8)
    reference = value_and_gradient(make_term(name), logits, target, valid)
    strided = logits.transpose(2, 4).contiguous().transpose(2, 4)
    layout = value_and_gradient(make_term(name), strided, target, valid)
    torch.testing.assert_close(layout[0], reference[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layout[1], reference[1], rtol=1e-12, atol=1e-12)


@EVERY_TERM
def test_precomputed_targets_give_the_same_value(name):
    from volumen.losses.targets import PRECOMPUTE

    logits, target, valid = scene(9)
    term = make_term(name)
    precomputed = {
        key: torch.from_numpy(
            np.stack([PRECOMPUTE[key](*pair) for pair in zip(target.numpy(), valid.numpy(), strict=True)])
        )
        for key in term.requires
    }
    assert same_bits(term(logits, target, valid, precomputed=precomputed), term(logits, target, valid))
    for key in term.requires:
        emptied = {**precomputed, key: torch.zeros_like(precomputed[key])}
        assert term(logits, target, valid, precomputed=emptied) == 0  # it is used, not made again


@pytest.mark.parametrize("name", [name for name, term in TERMS.items() if term.requires])
def test_precomputed_targets_at_ignored_voxels_change_nothing(name):
    logits, target, valid = scene(11)
    term = TERMS[name]()
    clean = {key: torch.ones_like(target) * valid for key in term.requires}
    scrambled = {key: torch.where(valid, made, 2) for key, made in clean.items()}

    def run(precomputed):
        return value_and_gradient(lambda *scene: term(*scene, precomputed=precomputed), logits, target, valid)

    value, gradient = run(clean)
    assert value > 0
    for first, second in zip((value, gradient), run(scrambled), strict=True):
        assert same_bits(first, second)


@EVERY_TERM
def test_a_wrong_target_value_or_shape_is_refused(name):
    logits, target, valid = scene(10)
    term = make_term(name)
    with pytest.raises(ValueError, match=r"only 0 \(background\) and 1 \(surface\)"):
        term(logits, torch.where(valid, target * 2, 0), valid)
    with pytest.raises(ValueError, match="valid: expected shape"):
        term(logits, target, valid[:, 1:])
    with pytest.raises(ValueError, match=r"\[B, 1, Z, Y, X\]"):
        term(logits.repeat(1, 2, 1, 1, 1), target, valid)


@settings(max_examples=20, deadline=None)
@given(
    weights=st.lists(st.floats(0.0, 3.0), min_size=len(TERMS), max_size=len(TERMS)).filter(any),
    seed=st.integers(0, 99),
)
def test_total_is_the_sum_of_the_weighted_parts(weights, seed):
    logits, target, valid = scene(seed)
    terms = {name: (weight, make_term(name)) for name, weight in zip(TERMS, weights, strict=True)}
    breakdown = CompositeLoss(terms)(logits, target, valid)
    assert breakdown.total == sum(breakdown.weighted.values())
    assert set(breakdown.raw) == {name for name, weight in zip(TERMS, weights, strict=True) if weight > 0}
    for name, raw in breakdown.raw.items():
        weight, term = terms[name]
        assert breakdown.weighted[name] == weight * raw
        assert same_bits(raw.detach(), term(logits, target, valid))
