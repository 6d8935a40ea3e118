"""Value and gradient of instance norm + leaky ReLU on a card, as autograd functions around the Triton kernels.

Two passes over memory forward and two backward, in the layout of the convolutions (channels last) and nothing copied.
Without scale and shift only the output is kept; with them, or with something added before the activation, the input.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from volumen.kernels import triton_rows as rows


def _loops() -> Any:
    from volumen.kernels import triton_norm_loops

    return triton_norm_loops


def _statistics(values: Tensor, eps: float) -> Tensor:
    """Mean and 1 / deviation, float32 [2, B, C], of a dense channels-last activation."""
    loops, plan = _loops(), rows.plan_of(values)
    samples, channels = values.shape[:2]
    voxels = values.shape[2] * values.shape[3] * values.shape[4]
    parts = torch.empty((2, samples, plan.chunks, channels), dtype=torch.float32, device=values.device)
    loops.moments[plan.reduce_grid](
        values, parts, voxels, eps, stride=channels, channels=channels, alone=plan.chunks == 1,
        **plan.reduce_block,
    )  # fmt: skip
    if plan.chunks == 1:
        return parts
    stats = torch.empty((2, samples, channels), dtype=torch.float32, device=values.device)
    loops.finish_moments[plan.finish_grid](
        parts, stats, voxels, plan.rows_each, plan.chunks, eps, channels=channels, **plan.finish_block
    )
    return stats


def _normalise(
    values: Tensor, stats: Tensor, weight: Tensor | None, bias: Tensor | None, side: Tensor | None, out: Tensor,
    slope: float,
) -> None:  # fmt: skip
    plan, channels = rows.plan_of(values), values.shape[1]
    voxels = values.shape[2] * values.shape[3] * values.shape[4]
    side, side_stride = (out, channels) if side is None else rows.in_rows(side)
    _loops().normalise[plan.apply_grid](
        values, stats, stats if weight is None else weight, stats if bias is None else bias, side, out, voxels, slope,
        stride=channels, side_stride=side_stride, out_stride=channels, channels=channels,
        affine=weight is not None, added=side is not out, activate=slope != 1, **plan.apply_block,
    )  # fmt: skip


def finished(parts: Tensor, plan: rows.Plan) -> Tensor:
    """Sums [2, B, C] of parts [2, B, chunks, C], always added in the same order."""
    if plan.chunks == 1:
        return parts
    lines, samples, _, channels = parts.shape
    sums = torch.empty((lines, samples, channels), dtype=torch.float32, device=parts.device)
    _loops().finish_sums[(plan.finish_grid[0], lines * samples)](
        parts, sums, plan.chunks, channels=channels, **plan.finish_block
    )
    return sums


def _backward(
    arriving: Tensor, kept: Tensor, stats: Tensor, slope: float, *, from_input: bool,
    weight: Tensor | None = None, bias: Tensor | None = None, out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradient of the input and of what was added, and the sums [2, B, C] of g and g * normal.

    `out` is the output of a norm to which something was added before an activation; its g is the second answer.
    """
    loops, plan = _loops(), rows.plan_of(kept)
    samples, channels = kept.shape[:2]
    voxels = kept.shape[2] * kept.shape[3] * kept.shape[4]
    arriving, stride = rows.in_rows(arriving)
    modes = {"from_input": from_input, "affine": weight is not None, "activate": slope != 1}
    weights = (stats if weight is None else weight, stats if bias is None else bias)
    result = rows.empty_rows(kept)
    side = rows.empty_rows(kept) if out is not None else result
    parts = torch.empty((2, samples, plan.chunks, channels), dtype=torch.float32, device=kept.device)
    with rows.launching(kept):
        loops.gradient_sums[plan.reduce_grid](
            arriving, kept, kept if out is None else out, stats, *weights, side, parts, voxels, slope,
            stride=stride, out_stride=channels, channels=channels, added=out is not None, **modes, **plan.reduce_block,
        )  # fmt: skip
        sums = finished(parts, plan)
        if out is not None:  # g is already that before the activation
            arriving, stride, modes["activate"] = side, channels, False
        loops.gradient[plan.apply_grid](
            arriving, kept, stats, *weights, sums, result, voxels, slope, stride=stride, channels=channels,
            **modes, **plan.apply_block,
        )  # fmt: skip
    return result, arriving, sums.view(2, samples, channels)


class TritonNorm(torch.autograd.Function):
    """Without scale and shift: keeps the output only."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, cancelled_bias: Tensor | None, slope: float, eps: float, inplace: bool
    ) -> Tensor:
        with rows.launching(values):
            stats = _statistics(values, eps)
            out = values if inplace else rows.empty_rows(values)
            _normalise(values, stats, None, None, None, out, slope)
        if inplace:
            ctx.mark_dirty(values)
        ctx.save_for_backward(out, stats)
        ctx.slope, ctx.cancelled_bias = slope, cancelled_bias
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        out, stats = ctx.saved_tensors
        result, _, _ = _backward(gradient, out, stats, ctx.slope, from_input=False)
        return result, _zero(ctx.cancelled_bias), None, None, None


class TritonAffineNorm(torch.autograd.Function):
    """With scale and shift, or with something added before the activation: keeps the input, and then the output too."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, side: Tensor | None,
        cancelled_bias: Tensor | None, slope: float, eps: float,
    ) -> Tensor:  # fmt: skip
        with rows.launching(values):
            stats = _statistics(values, eps)
            out = rows.empty_rows(values)
            _normalise(values, stats, weight, bias, side, out, slope)
        signed = out if side is not None and slope != 1 else None
        ctx.save_for_backward(values, stats, weight, bias, signed)
        ctx.slope, ctx.cancelled_bias, ctx.added = slope, cancelled_bias, side is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None, None, None]:
        values, stats, weight, bias, out = ctx.saved_tensors
        result, local, sums = _backward(
            gradient, values, stats, ctx.slope, from_input=True, weight=weight, bias=bias, out=out
        )
        side = local if ctx.added else None
        if weight is None:
            return result, None, None, side, _zero(ctx.cancelled_bias), None, None
        total, product = sums.sum(dim=1)
        return result, product.to(weight.dtype), total.to(bias.dtype), side, _zero(ctx.cancelled_bias), None, None


def _zero(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else torch.zeros_like(parameter)
