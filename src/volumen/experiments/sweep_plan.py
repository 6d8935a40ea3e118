"""What a sweep is: the configuration, what may be chosen, by what trials are judged, and how long they are."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from volumen import __version__
from volumen.config.dump import canonical, config_hash
from volumen.config.load import LoadedConfig, override_config
from volumen.config.optimisation import Training
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.experiments.ablation_plan import layout_of, reacts_to_validations, steps_per_epoch
from volumen.experiments.sweep_corners import refused_share
from volumen.experiments.sweep_file import load_space
from volumen.experiments.sweep_halving import BASELINE, Value, rungs_of
from volumen.experiments.sweep_sampling import GRID, SAMPLERS, grid_of
from volumen.experiments.sweep_space import Space
from volumen.system.output import Warn, counted, unheard
from volumen.training.initial import Materials

METRICS: tuple[str, ...] = get_args(Training.model_fields["selection_metric"].annotation)
MOST_TRIALS, MOST_EPOCHS = 10_000, 1_000_000


@dataclass(frozen=True)
class SweepPlan:
    """All that decides what the trials of a sweep are."""

    config: Config
    """Trial 0."""
    space: Space
    metric: str
    """Of validations; higher is better."""
    rungs: tuple[int, ...]
    """Epochs at which trials are compared; the last is the whole length."""
    reduction: int
    trials: int
    sampler: str
    seed: int
    """Of the draws."""
    steps_per_epoch: int | None = None
    """Of every trial, whatever its batch; None where the patches of an epoch are what is equal."""
    confirm: int = 0
    """How many of the best trials are repeated, with trial 0, with other seeds."""
    seeds: int = 3
    """Of those repeats."""
    keep: bool = False
    """Keep the checkpoints of trials that did not reach the end."""
    origin: str = ""
    """Of the data: what values depend on beside the configuration."""

    def trial_config(self, number: int, parameters: Mapping[str, Value], seed: int | None = None) -> Config:
        """A trial as it is trained.

        Raises:
            ConfigError: The schema refuses these values.
        """
        config = self.space.config(self.config, parameters)
        return override_config(config, self._settings(number, config, seed), f"trial {number}").config

    def _settings(self, number: int, config: Config, seed: int | None) -> list[str]:
        every = config.training.validate_every_epochs
        if any(rung % every for rung in self.rungs):
            every = math.gcd(*self.rungs)
        settings: dict[str, Any] = {
            "name": f"trial-{number:04d}" + ("" if seed is None else f"-seed{seed}"),
            "seed": config.seed if seed is None else seed,
            "training.epochs": self.rungs[-1],
            "training.early_stopping": None,
            "training.selection_metric": self.metric,
            "training.validate_every_epochs": 1 if reacts_to_validations(config) else every,
        }
        if self.steps_per_epoch is not None:
            settings["data.sampling.patches_per_epoch"] = self.steps_per_epoch * config.data.batch
        return [f"{key}={canonical(value)}" for key, value in settings.items()]

    @property
    def identity(self) -> dict[str, Any]:
        """What may not change while a sweep goes on; by the option or file that says it."""
        space = [(one.key, one.corners, one.step, one.log, one.whole, one.when) for one in self.space.factors]
        written = [list(one.choices.values()) for one in self.space.factors]
        return {
            "the configuration": config_hash(self.trial_config(BASELINE, {})),
            "the space": hashlib.sha256(canonical([_plain(space), written]).encode()).hexdigest(),
            "--metric": self.metric,
            "--epochs, --steps or the rungs": [*self.rungs, self.steps_per_epoch or 0],
            "--reduction": self.reduction,
            "--sampler": self.sampler,
            "--seed": self.seed,
            "the data set or its folds": self.origin,
            "volumen's version": __version__,
        }

    @property
    def repeat_seeds(self) -> tuple[int, ...]:
        """Other seeds than the one that the trials had."""
        return tuple((self.config.seed + 1 + number) % 2**63 for number in range(self.seeds))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def plan_sweep(
    loaded: LoadedConfig[Config],
    space: Path,
    *,
    trials: int | None,
    epochs: int | None = None,
    steps: int | None = None,
    metric: str | None = None,
    reduction: int = 3,
    first: int | None = None,
    sampler: str = "tpe",
    seed: int = 0,
    confirm: int = 0,
    seeds: int = 3,
    keep: bool = False,
    warn: Warn = unheard,
) -> SweepPlan:
    """What is to be done; nothing is trained or written.

    Args:
        loaded: The configuration.
        space: File of what may be chosen, see `sweep_file`.
        trials: How many, trial 0 among them; None is the whole grid.
        epochs: Of a whole trial; None with `steps`, or for the configuration's.
        steps: Of a whole trial, in place of epochs.
        metric: By which trials are judged; None is the configuration's selection metric.
        reduction: One of so many trials goes on from each rung; 1 trains all to the end.
        first: Epochs of the first rung.
        sampler: `tpe`, `random` or `grid`.
        seed: Of the draws.
        confirm: How many of the best trials to repeat.
        seeds: With how many other seeds.
        keep: Keep the checkpoints of trials that did not reach the end.
        warn: Told what a reader should know before it runs.

    Raises:
        UserError: A wrong file or number, no data set or fold, or a metric that is none.
    """
    config = loaded.config
    length, per_epoch = _length(config, epochs, steps)
    found = load_space(space, config)
    chosen = _metric(metric, config, found)
    if sampler not in SAMPLERS:
        raise UserError(f"--sampler is one of {', '.join(SAMPLERS)}, got {sampler}")
    trials = _trials(trials, sampler, found, warn)
    if reduction < 1 or reduction > 100:
        raise UserError(f"--reduction must be a number from 1 (no halving) to 100, got {reduction}")
    if confirm < 0 or confirm >= trials:
        raise UserError(f"--confirm must be a number from 0 to {trials - 1}, the trials beside trial 0, got {confirm}")
    if not 1 <= seeds <= 100:
        raise UserError(f"--seeds must be a number from 1 to 100, got {seeds}")
    materials = Materials(config)
    fold = materials.fold  # a wrong data set or fold is told before anything is trained
    plan = SweepPlan(
        config, found, chosen, rungs_of(length, reduction, first), reduction, trials, sampler, seed, per_epoch, confirm,
        seeds, keep, f"{materials.dataset.identity} {', '.join(fold.validation)}",
    )  # fmt: skip
    plan.trial_config(BASELINE, {})  # a length that does not fit the configuration is told now
    refused, of = refused_share(found, config)
    if refused:
        warn(
            f"{refused} of {counted(of, 'combination')} of ends and choices do not go together: trials that draw one "
            "end with the reason, and count"
        )
    return plan


def _length(config: Config, epochs: int | None, steps: int | None) -> tuple[int, int | None]:
    if epochs is not None and steps is not None:
        raise UserError("give the length of a trial by --epochs or by --steps, not by both")
    if steps is not None:
        if not 1 <= steps <= MOST_EPOCHS * 10:
            raise UserError(f"--steps must be a number from 1 to {MOST_EPOCHS * 10}, got {steps}")
        layout = layout_of(steps, steps_per_epoch(config), reacts=False)
        return layout.epochs, layout.steps_per_epoch
    length = config.training.epochs if epochs is None else epochs
    if not 1 <= length <= MOST_EPOCHS:
        raise UserError(f"--epochs must be a number from 1 to {MOST_EPOCHS}, got {length}")
    return length, None


def _metric(metric: str | None, config: Config, space: Space) -> str:
    if metric is None:
        return config.training.selection_metric
    if metric in METRICS:
        return metric
    weighted = [one.key for one in space.factors if one.key.split(".")[0] == "loss"]
    if "loss" in metric or metric == "total":
        why = (
            f"the sweep changes the loss itself ({', '.join(weighted)}), and values of different losses say nothing "
            "of each other"
            if weighted
            else "a lower loss is not a better mask"
        )
        raise UserError(f"--metric {metric} is no measure for a sweep: {why}: use one of {', '.join(METRICS)}")
    raise UserError(f"--metric must be one of {', '.join(METRICS)}, got {metric}")


def _trials(trials: int | None, sampler: str, space: Space, warn: Warn) -> int:
    whole = len(grid_of(space)) + 1 if sampler == GRID else None
    if trials is None:
        if whole is None:
            raise UserError("say by --trials how many configurations to try, the file's own among them")
        return whole
    if not 2 <= trials <= MOST_TRIALS:
        raise UserError(
            f"--trials must be a number from 2 to {MOST_TRIALS}, the configuration itself is one, got {trials}"
        )
    if whole is not None and trials > whole:
        warn(f"the grid has {whole - 1} points: {whole} trials are done, the configuration itself among them")
        return whole
    return trials
