"""P8: do network, patch and tile go together?"""

import math
from collections.abc import Iterator

from volumen.config.model import ResEncModel, UNetModel
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity

SMALL_TILE = 0.5
"""Least side of a tile, in sides of the patch; measured: a third costs 40 % of Dice, two thirds 10 %."""
FEW_FILTERS = 2
"""At the finest level; one costs a quarter of Dice on phantoms, two next to nothing there."""


def check_size(context: Context) -> Iterator[Finding]:
    """Whether the coarsest level has room, the network is wide enough, and tiles are as large as what it learned on."""
    config, patch = context.config, context.config.data.patch
    if isinstance(config.model, UNetModel | ResEncModel) and all(side == config.divisor for side in patch):
        yield _found(
            context,
            "data.patch",
            Severity.stop,
            "the coarsest level of the network is one voxel",
            f"a patch of {list(patch)} is halved until one voxel is left, whose norm is always 0",
            f"data.patch: {[2 * config.divisor] * 3}, or model.depth one less",
        )
        return
    if isinstance(config.model, UNetModel) and config.model.filters <= FEW_FILTERS:
        yield _found(
            context,
            "model.filters",
            Severity.warn if config.model.filters < FEW_FILTERS else Severity.note,
            "the network is hardly wide enough to learn",
            f"{config.model.filters} filters at the finest level",
            "model.filters: 8",
        )
    ratio = min(tile / side for tile, side in zip(config.tile, patch, strict=True))
    if ratio < SMALL_TILE and math.prod(config.tile) < math.prod(patch):
        yield _found(
            context,
            "inference.tile",
            Severity.warn,
            "tiles are far smaller than the patches of the training",
            f"tiles of {list(config.tile)}, patches of {list(patch)}: the network meets other surroundings, and its "
            "norms other statistics, than it learned on",
            "inference.tile: null, which takes the patch",
        )


def _found(context: Context, key: str, severity: Severity, title: str, evidence: str, remedy: str) -> Finding:
    causes = ("sizes that were meant for another network or patch",)
    return Finding("P8", severity, title, evidence, causes, (remedy,), context.where(key))
