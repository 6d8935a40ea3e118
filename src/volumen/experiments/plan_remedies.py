"""The case study's seven solutions and its last recommendation, as remedies of any configuration.

A solution that a configuration has nothing for (no variance term to switch off) is left out, with the reason.
"""

from collections.abc import Mapping
from typing import Any

from volumen.config.model import ResEncModel, UNetModel
from volumen.config.optimisation import AdamW, Constant, OneCycle, Plateau
from volumen.config.remedies import Remedy, remedies_of
from volumen.config.schema import Config

SOURCE = "the plan"
REGULARISERS = ("variance", "entropy")
"""What the plan called its variance loss."""
NEVER = 999
"""The plan's patience of a scheduler that is not to act."""
FIRST_PHASE = 0.1
"""Of the run: the plan wanted Dice alone for 50 of 500 epochs."""

Change = dict[str, Any]
WHY = {
    "disable_variance": "solution 1: the variance term is an artificial floor",
    "double_rate": "solution 2: bold steps leave the plateau",
    "no_reduction": "solution 3: exploration at a high rate, without early reductions",
    "dice_only": "solution 4: no conflicting gradients",
    "double_filters": "solution 5: capacity for finer patterns",
    "adamw": "solution 6: other dynamics find other minima",
    "curriculum": "solution 7: the simple term first",
    "combo": "the plan's last recommendation: solutions 1, 2 and 3 together",
}


def plan_remedies(config: Config, epochs: int) -> tuple[tuple[Remedy, ...], dict[str, str]]:
    """The plan's list for a configuration.

    Args:
        config: What is to be mended.
        epochs: Of a run, which the curriculum divides.

    Returns:
        Remedies, and the reason by name for each that does not apply.

    Raises:
        ConfigError: A solution that the configuration does not allow, such as filters beyond any network.
    """
    found: dict[str, Change | str] = {
        "disable_variance": _disable_variance(config),
        "double_rate": {"optimiser.learning_rate": _doubled(config.optimiser.learning_rate)},
        "no_reduction": _no_reduction(config),
        "dice_only": _dice_only(config),
        "double_filters": _double_filters(config),
        "adamw": _adamw(config),
        "curriculum": _curriculum(config, epochs),
    }
    combined: Change = {}
    for name in ("disable_variance", "double_rate", "no_reduction"):
        part = found[name]
        combined |= {} if isinstance(part, str) else part
    found["combo"] = combined
    changes = {name: {"why": WHY[name], **one} for name, one in found.items() if not isinstance(one, str)}
    return remedies_of(changes, config, SOURCE), {name: one for name, one in found.items() if isinstance(one, str)}


def _doubled(rate: float) -> float:
    return float(f"{2 * rate:.12g}")


def _weights(config: Config) -> Mapping[str, float]:
    return {name: term.weight for name, term in config.loss.terms.present().items()}


def _disable_variance(config: Config) -> Change | str:
    weights = _weights(config)
    acting = [name for name in REGULARISERS if weights.get(name, 0.0) > 0]
    if not acting:
        return "the objective has no variance or entropy term"
    if not any(weight > 0 for name, weight in weights.items() if name not in REGULARISERS):
        return "the objective has nothing else"
    return {f"loss.terms.{name}.weight": 0.0 for name in acting}


def _no_reduction(config: Config) -> Change | str:
    schedule = config.schedule
    if isinstance(schedule, Plateau):
        return {"schedule.patience": NEVER}
    if isinstance(schedule, Constant):
        return "the learning rate is never reduced"
    kept = {} if isinstance(schedule, OneCycle) else {"warmup_epochs": schedule.warmup_epochs}
    return {"schedule": {"kind": "constant", **kept}}


def _dice_only(config: Config) -> Change | str:
    weights = _weights(config)
    others = {f"loss.terms.{name}.weight": 0.0 for name in weights if name != "soft_dice"}
    if not any(weight > 0 for name, weight in weights.items() if name != "soft_dice") and not config.loss.curriculum:
        return "the objective is Dice alone"
    phases: Change = {"loss.curriculum": []} if config.loss.curriculum else {}
    return {"loss.terms.soft_dice.weight": 1.0, **others, **phases}


def _double_filters(config: Config) -> Change | str:
    if isinstance(config.model, UNetModel):
        return {"model.filters": 2 * config.model.filters}
    if isinstance(config.model, ResEncModel) and config.model.size == "S":
        return {"model.size": "M"}
    return f"a {config.model.kind} network has no wider form here"


def _adamw(config: Config) -> Change | str:
    if isinstance(config.optimiser, AdamW):
        return "the optimiser is AdamW"
    return {"optimiser": {"kind": "adamw", "learning_rate": config.optimiser.learning_rate}}


def _curriculum(config: Config, epochs: int) -> Change | str:
    if config.loss.curriculum:
        return "the objective has a curriculum"
    weights = {name: weight for name, weight in _weights(config).items() if weight > 0}
    if set(weights) == {"soft_dice"}:
        return "the objective is Dice alone"
    if epochs < 2:
        return "a run of one epoch has no phases: give more --steps"
    later = min(max(1, round(FIRST_PHASE * epochs)), epochs - 1)
    phases = [
        {"name": "dice first", "start_epoch": 0, "weights": {"soft_dice": 1.0}},
        {"name": "all terms", "start_epoch": later, "weights": weights},
    ]
    present: Change = {} if "soft_dice" in _weights(config) else {"loss.terms.soft_dice": {"weight": 0.0}}
    return {**present, "loss.curriculum": phases}
