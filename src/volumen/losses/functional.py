"""Loss functions of probabilities and logits: stateless, masked and stable.

Ignored voxels must change neither value nor gradient, to the last bit, whatever stands in them. That is had by
construction: only `hide_ignored` and `masked_probabilities` read raw logits, both give 0 there with a gradient of 0,
and every field made from them (loss, entropy) is 0 there as well. Neighbourhood terms thus see an ignored voxel as
background in prediction and target alike: it can neither support nor contradict its neighbours. Every mean is taken
over valid voxels only, and a mean over none is 0 with a gradient of 0.

Shapes are [B, Z, Y, X]. Everything has the dtype of the logits, float32 or float64: masks too, as 1 and 0, because
multiplying is vectorised on every device and `torch.where` on the CPU is not (ten times slower on a scattered mask).
The functions with a backward pass of their own are differentiable once.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from volumen.kernels.pooling import dilate_cube, soft_skeleton
from volumen.losses.whole_batch import over_batch


def bit_mask(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Integers as wide as `dtype`: all ones at valid voxels, all zeros at ignored ones.

    The product of a mask and NaN is NaN; the bits of NaN and those of an all-zero mask are 0.0.
    """
    return valid.view(torch.int8).neg().to(_integer_like(dtype))


def hide_ignored(logits: Tensor, bits: Tensor) -> Tensor:
    """The logits at valid voxels (by `bit_mask`); elsewhere 0, whatever they are, with a gradient of 0."""
    hidden: Tensor = _HideIgnored.apply(logits, bits)  # type: ignore[no-untyped-call]
    return hidden


def masked_probabilities(logits: Tensor, bits: Tensor) -> Tensor:
    """Sigmoid of the logits at valid voxels (by `bit_mask`); 0, with a gradient of 0, at ignored ones."""
    probabilities: Tensor = _MaskedSigmoid.apply(logits, bits)  # type: ignore[no-untyped-call]
    return probabilities


def _integer_like(dtype: torch.dtype) -> torch.dtype:
    return torch.int64 if dtype == torch.float64 else torch.int32


def focal_cross_entropy(logits: Tensor, sign: Tensor, gamma: float = 0.0) -> Tensor:
    """Voxelwise focal loss (1 - p_t)^gamma (-log p_t) in nats; with gamma 0 it is the cross-entropy.

    p_t is the probability given to the true class. Source: Lin et al., ICCV 2017, arXiv:1708.02002, without its alpha
    (a class weight, applied by the term).

    Args:
        sign: 1 at surface, -1 at background, 0 at ignored voxels, where value and gradient are 0.
    """
    field: Tensor = _FocalCrossEntropy.apply(logits, sign, gamma)  # type: ignore[no-untyped-call]
    return field


def binary_entropy(logits: Tensor, valid: Tensor) -> Tensor:
    """Voxelwise entropy of the predicted distribution, in nats (at most ln 2); 0 at ignored voxels."""
    # In terms of a = |logit| nothing cancels: H = log(1 + exp(-a)) + a sigmoid(-a).
    magnitude = logits.abs()
    return (magnitude * torch.sigmoid(-magnitude) - F.logsigmoid(magnitude)) * valid


def mean_over(field: Tensor, count: Tensor) -> Tensor:
    """Sum of a field over a count of voxels or a sum of weights, both of the whole batch; 0 where the count is 0."""
    total, count = over_batch(field.sum(), count)
    return total / torch.where(count > 0, count, 1)


def _mean_over_samples(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of per-sample values [B] over the samples that count (bool [B]); 0 if none does."""
    return mean_over(torch.where(counted, values, 0), counted.sum())


def overlap_and_total(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Per sample, the sums [B] of values times mask and of values. Only the values get a gradient."""
    overlap: Tensor
    total: Tensor
    overlap, total = _OverlapAndTotal.apply(values, mask)  # type: ignore[no-untyped-call]
    return overlap, total


def soft_dice_loss(probabilities: Tensor, target: Tensor, counted: Tensor, smooth: float) -> Tensor:
    """1 - (2 sum p t + smooth) / (sum p + sum t + smooth), mean over the samples that count (bool [B]).

    Source: Milletari et al., 3DV 2016, with first powers in the denominator.
    """
    overlap, predicted = overlap_and_total(probabilities, target)
    total = predicted + target.flatten(1).sum(1)
    # Written as a difference over the denominator: exactly 0 at a perfect prediction.
    return _mean_over_samples((total - 2 * overlap) / (total + smooth), counted)


def variance(probabilities: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    """Population variance of the probabilities over the `count` valid voxels of the batch; at most 0.25."""
    mean = mean_over(probabilities, count)
    return mean_over(((probabilities - mean) * valid).square(), count)


def pooled_disagreement(probabilities: Tensor, target: Tensor, valid: Tensor, count: Tensor, radius: int) -> Tensor:
    """Mean squared difference of the locally largest probability and the locally largest target at valid voxels."""
    difference = dilate_cube(probabilities, radius) - dilate_cube(target, radius)
    return mean_over((difference * valid).square(), count)


def recall_loss(probabilities: Tensor, core: Tensor) -> Tensor:
    """1 - sum p c / sum c, mean over the samples whose core c (a mask) is not empty."""
    size = core.flatten(1).sum(1)
    hit, _ = overlap_and_total(probabilities, core)
    return _mean_over_samples(1 - hit / torch.where(size > 0, size, 1), size > 0)


def soft_cldice_loss(probabilities: Tensor, target: Tensor, counted: Tensor, iterations: int, smooth: float) -> Tensor:
    """1 - soft clDice, mean over the samples that count (bool [B]).

    The harmonic mean of topology precision (the share of the predicted skeleton that lies in the target) and topology
    sensitivity (the share of the target's skeleton that lies in the prediction). Source: Shit et al., CVPR 2021,
    arXiv:2003.07311.
    """
    target_skeleton = soft_skeleton(target, iterations)
    on_target, drawn = overlap_and_total(soft_skeleton(probabilities, iterations), target)
    covered, _ = overlap_and_total(probabilities, target_skeleton)
    precision = (on_target + smooth) / (drawn + smooth)
    sensitivity = (covered + smooth) / (target_skeleton.flatten(1).sum(1) + smooth)
    return _mean_over_samples(1 - 2 * precision * sensitivity / (precision + sensitivity), counted)


class _HideIgnored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, bits: Tensor) -> Tensor:
        ctx.save_for_backward(bits)
        return (logits.view(bits.dtype) & bits).view(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (bits,) = ctx.saved_tensors
        return (gradient.view(bits.dtype) & bits).view(gradient.dtype), None


class _MaskedSigmoid(torch.autograd.Function):
    """Sigmoid and mask in one: the masked result is all that the backward pass needs, since its slope is p (1 - p)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, bits: Tensor) -> Tensor:
        probabilities = torch.sigmoid(logits)
        probabilities.view(bits.dtype).bitwise_and_(bits)
        ctx.save_for_backward(probabilities)
        return probabilities

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (probabilities,) = ctx.saved_tensors
        slope: Tensor = torch.ops.aten.sigmoid_backward(gradient, probabilities)
        return slope, None


class _FocalCrossEntropy(torch.autograd.Function):
    """With the margin m = sign * logit and q = sigmoid(-m) = 1 - p_t, the loss is q^gamma (-log p_t) and its slope in m
    -q^gamma (q + gamma (1 - q) (-log p_t)); both are made in the forward pass, where their common parts are at hand.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, sign: Tensor, gamma: float) -> Tensor:
        margin = logits * sign
        loss = F.logsigmoid(margin).mul_(sign).mul_(sign).neg_()
        slope = margin.neg_().sigmoid_()
        if gamma != 0:
            focus = slope.square() if gamma == 2 else slope.pow(gamma)
            slope = torch.sub(1, slope).mul_(loss).mul_(gamma).add_(slope).mul_(focus)
            loss.mul_(focus)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(slope.mul_(sign).neg_())
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None


class _OverlapAndTotal(torch.autograd.Function):
    """Two sums in one, so that the gradient of both is written in one pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(mask)
        return (values * mask).flatten(1).sum(1), values.flatten(1).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, overlap_gradient: Tensor, total_gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        per_sample = (-1, 1, 1, 1)
        return torch.addcmul(total_gradient.view(per_sample), overlap_gradient.view(per_sample), mask), None
