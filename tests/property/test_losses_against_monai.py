"""Differential tests: where MONAI has the same loss, values and gradients agree."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss, FocalLoss, SoftclDiceLoss

from volumen.losses import TERMS


def scene(seed: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(size=(batch, 1, 8, 9, 10))).requires_grad_()
    target = torch.from_numpy((generator.random((batch, 8, 9, 10)) < 0.3).astype(np.uint8))
    return logits, target, torch.ones(target.shape, dtype=torch.bool)


def assert_same(term, peer, seed: int, dtype: torch.dtype = torch.float64, tolerance: float = 1e-6) -> None:
    logits, target, valid = scene(seed)
    ours = term(logits, target, valid)
    theirs = peer(logits, target.unsqueeze(1).to(dtype))
    torch.testing.assert_close(ours, theirs.double(), rtol=tolerance, atol=tolerance)
    (our_gradient,) = torch.autograd.grad(ours, logits)
    (their_gradient,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=tolerance * 1e-2)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), smooth=st.sampled_from([1e-5, 1.0, 20.0]))
def test_soft_dice(seed, smooth):
    assert_same(TERMS["soft_dice"](smooth=smooth), DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth), seed)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    gamma=st.sampled_from([0.0, 0.5, 2.0, 3.5]),
    alpha=st.sampled_from([None, 0.0, 0.25, 0.75]),
)
def test_focal(seed, gamma, alpha):
    # MONAI computes it in float32 whatever it is given.
    assert_same(TERMS["focal"](gamma=gamma, alpha=alpha), FocalLoss(gamma=gamma, alpha=alpha), seed)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), weight=st.sampled_from([0.2, 1.0, 4.0]))
def test_cross_entropy_against_pytorch(seed, weight):
    peer = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight, dtype=torch.float64))
    assert_same(TERMS["cross_entropy"](surface_weight=weight), peer, seed, tolerance=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), iterations=st.integers(1, 5))
def test_cldice(seed, iterations):
    # MONAI adds 1e-12 here where ours needs nothing: precision and sensitivity are never both 0.
    peer = SoftclDiceLoss(iter_=iterations, smooth_nr=1.0, smooth_dr=1.0, smooth=1e-12, sigmoid=True)
    assert_same(TERMS["cldice"](iterations=iterations), peer, seed, tolerance=1e-9)


def test_ignored_voxels_match_leaving_them_out():
    logits, target, valid = scene(0, batch=1)
    valid[:, 5:] = False
    cropped = logits[:, :, :5], target[:, :5], valid[:, :5]
    for name in ("soft_dice", "focal", "cross_entropy", "variance", "boundary", "signed_distance"):
        torch.testing.assert_close(TERMS[name]()(logits, target, valid), TERMS[name]()(*cropped), rtol=0, atol=1e-12)
