"""What every term reads: prediction and target of one resolution, made once and shared by all terms of an objective."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from volumen.losses.functional import bit_mask, focal_cross_entropy, hide_ignored, masked_probabilities
from volumen.losses.targets import PRECOMPUTE
from volumen.losses.whole_batch import over_batch


@dataclass(frozen=True)
class LossInputs:
    """Logits, target and mask of one resolution [B, Z, Y, X]; what several terms need is made when first asked for."""

    raw_logits: Tensor
    """float32 or float64; terms read `logits` or `probabilities` instead, which hide ignored voxels."""
    surface: Tensor
    """bool: the voxel is valid and the target says surface."""
    valid: Tensor
    given: Mapping[str, Tensor] = field(default_factory=dict)
    """Precomputed targets by name."""

    @classmethod
    def create(
        cls, logits: Tensor, target: Tensor, valid: Tensor, precomputed: Mapping[str, Tensor] | None = None
    ) -> "LossInputs":
        """Check shapes and values and raise half-precision logits to float32.

        Raises:
            ValueError: on shapes or types that do not belong together or a target outside {0, 1} at a valid voxel.
        """
        if logits.ndim != 5 or logits.shape[1] != 1:
            raise ValueError(f"logits: expected shape [B, 1, Z, Y, X], got {list(logits.shape)}")
        given = dict(precomputed or {})
        expected = [logits.shape[0], *logits.shape[2:]]
        for name, tensor in {"target": target, "valid": valid, **given}.items():
            if list(tensor.shape) != expected:
                raise ValueError(f"{name}: expected shape {expected} to match the logits, got {list(tensor.shape)}")
        if valid.dtype != torch.bool or target.is_floating_point():
            raise ValueError(
                f"expected a target of whole numbers and a bool mask `valid`, got {target.dtype} and {valid.dtype}"
            )
        seen = target * valid
        # Looking at values would make the host wait for an accelerator, so there the loader's own check has to do.
        if seen.device.type == "cpu" and seen.numel() and not 0 <= int(seen.min()) <= int(seen.max()) <= 1:
            raise ValueError(
                "target: expected only 0 (background) and 1 (surface) at valid voxels, "
                f"got values from {int(seen.min())} to {int(seen.max())}"
            )
        dtype = logits.dtype if logits.dtype == torch.float64 else torch.float32
        return cls(logits.squeeze(1).to(dtype), seen.to(torch.bool), valid, given)

    @property
    def dtype(self) -> torch.dtype:
        """What everything is computed in."""
        return self.raw_logits.dtype

    @cached_property
    def _valid_bits(self) -> Tensor:
        return bit_mask(self.valid, self.dtype)

    @cached_property
    def logits(self) -> Tensor:
        """Logits, 0 at ignored voxels."""
        return hide_ignored(self.raw_logits, self._valid_bits)

    @cached_property
    def valid_mask(self) -> Tensor:
        """1 at valid and 0 at ignored voxels, in the logits' dtype."""
        return self.valid.to(self.dtype)

    @cached_property
    def background(self) -> Tensor:
        """Valid voxels that are not surface, bool."""
        return self.valid & ~self.surface

    @cached_property
    def target(self) -> Tensor:
        """The target in the logits' dtype, 0 at ignored voxels."""
        return self.surface.to(self.dtype)

    @cached_property
    def sign(self) -> Tensor:
        """1 at surface, -1 at background, 0 at ignored voxels, in the logits' dtype."""
        return torch.sub(2 * self.target, self.valid_mask)

    @cached_property
    def valid_count(self) -> Tensor:
        """Number of valid voxels here."""
        return torch.count_nonzero(self.valid)

    @cached_property
    def any_valid(self) -> Tensor:
        """Whether the whole batch has a valid voxel."""
        (count,) = over_batch(self.valid_count)
        return count > 0

    @cached_property
    def labelled_samples(self) -> Tensor:
        """Samples with at least one valid voxel, bool [B]."""
        return self.valid.view(torch.uint8).flatten(1).amax(1) > 0

    @cached_property
    def probabilities(self) -> Tensor:
        """Probability of surface, 0 at ignored voxels."""
        return masked_probabilities(self.raw_logits, self._valid_bits)

    @cached_property
    def cross_entropy(self) -> Tensor:
        """Voxelwise cross-entropy in nats, 0 at ignored voxels."""
        return focal_cross_entropy(self.logits, self.sign)

    def precomputed(self, name: str) -> Tensor:
        """A target of `volumen.losses.targets.PRECOMPUTE`: as the loader made it, else made here the same way."""
        if name in self.given:
            return self.given[name].to(self.valid.device)
        surface = self.surface.cpu().numpy().astype(np.uint8)
        valid = self.valid.cpu().numpy()
        made = [PRECOMPUTE[name](*sample) for sample in zip(surface, valid, strict=True)]
        return torch.from_numpy(np.stack(made)).to(self.valid.device)
