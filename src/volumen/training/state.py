"""The whole state of a run: what a checkpoint holds, what a rollback restores.

If something here could change the next step and were not saved, resuming would differ from never having stopped.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from volumen.config.optimisation import AdamW, Sgd
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.losses import CompositeLoss
from volumen.models import build_model
from volumen.runs.saved import FORMAT, NO_DATA, TrainedOn, checked_state, load_weights
from volumen.runtime import Precision
from volumen.training.averaging import EqualAverage, MovingAverage
from volumen.training.distributed import ALONE, World
from volumen.training.initial import InitialWeights
from volumen.training.moving import load_optimiser
from volumen.training.objective import build_objective
from volumen.training.pacing import Pace, pace_of, saved_pace
from volumen.training.repairs import BRANCH, Changes, Repairs
from volumen.training.resizing import Place, resized
from volumen.training.schedule import LearningRate
from volumen.training.totals import EpochTotals
from volumen.training.watch import Watch


@dataclass
class Cursor:
    """Where in the data a run is: the next patch is a function of this and the seed."""

    step: int = 0
    epoch: int = 0
    batch: int = 0


@dataclass
class TrainingState:
    """Everything that makes the next step what it is."""

    config: Config
    data: TrainedOn
    model: nn.Module
    optimiser: Optimizer
    rate: LearningRate
    average: MovingAverage | None
    swa: EqualAverage | None
    scaler: torch.amp.GradScaler | None
    planned_steps: int
    steps_per_epoch: int
    watch: Watch = field(default_factory=Watch)
    cursor: Cursor = field(default_factory=Cursor)
    totals: EpochTotals = field(default_factory=EpochTotals)
    seconds: float = 0.0
    budget_seconds: float | None = None
    """What all sessions may take together; None plans the configured epochs."""
    run: str = ""
    """The run's name for itself."""
    trusted: bool = False
    """Whether every file of the data was verified at the last saving."""
    ended_epoch: bool = False
    """Whether the running epoch's averages and record are done already, and only its validation is left."""
    repairs: Repairs = field(default_factory=Repairs)
    pace: Pace = field(default_factory=lambda: Pace(1))
    """How often it validates."""
    shares: bool = False
    """Whether other ranks on other cards have the same state."""
    branch: dict[str, Any] | None = None
    """State of a tournament's branch that was left in the middle; all the rest is the run's own."""

    def count(self, batch: Mapping[str, Any], *, seconds: float, loader_seconds: float, world: World = ALONE) -> None:
        """Take a step's patches (of all ranks) and times into the epoch's sums; its result follows when it is read."""
        centred, patches = world.sum(int(batch["meta"]["centred"].sum()), len(batch["image"]))
        self.totals.add_batch(patches=patches, centred=centred, seconds=seconds, loader_seconds=loader_seconds)
        self.seconds += seconds

    @property
    def planned_epochs(self) -> int:
        """Epochs of the planned steps; the last one of a session may be cut short by a time budget."""
        return self.cursor.epoch - (self.cursor.step - self.cursor.batch - self.planned_steps) // self.steps_per_epoch

    @property
    def configured_steps(self) -> int:
        """Steps of all configured epochs, where those that were cut short count as done."""
        left = self.config.training.epochs - self.cursor.epoch
        return self.cursor.step - self.cursor.batch + left * self.steps_per_epoch

    @property
    def validated_weights(self) -> str:
        """Which weights validation looks at: the moving average where there is one."""
        return "plain" if self.average is None else "average"

    @property
    def gradient_clip(self) -> float | None:
        """The configured one, or an intervention's."""
        changed = self.repairs.changes.gradient_clip
        return self.config.training.gradient_clip if changed is None else changed

    def objective(self) -> CompositeLoss:
        """Terms and weights of the running epoch."""
        return build_objective(self.config.loss, self.cursor.epoch, self.repairs.changes.weights)

    def adopt(self, changes: Changes, *, anew: bool = False) -> None:
        """Let these changes hold in place of those that did; what is not changed any more is the configuration's.

        An optimiser that differs, or is wanted `anew`, has no moments; so an average begins with the weights of now.
        """
        before, config = self.repairs.changes, self.config
        self.repairs = self.repairs.but(changes=changes)
        if anew or changes.optimiser != before.optimiser:
            settings = changes.optimiser or config.optimiser
            self.optimiser = build_optimiser(self.model, settings)
            self.rate.own(self.optimiser, settings.learning_rate)
        if changes.schedule != before.schedule:
            self.rate.follow(changes.schedule or config.schedule)
        if changes.average != before.average:
            self.average = MovingAverage(self.model, changes.average) if changes.average else None
        for name, parameter in self.model.named_parameters():
            if (name in changes.unfrozen) != (name in before.unfrozen):
                parameter.requires_grad_(name in changes.unfrozen)

    def state_dict(self) -> dict[str, Any]:
        """Primitives and tensors only."""
        return {
            "format": FORMAT,
            "run": self.run,
            "trusted": self.trusted,
            "data": self.data.to_state(),
            "config": self.config.model_dump_json(),
            "model": dict(self.model.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "rate": self.rate.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "swa": None if self.swa is None else self.swa.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "watch": asdict(self.watch),
            "cursor": asdict(self.cursor),
            "totals": asdict(self.totals),
            "planned_steps": self.planned_steps,
            "budget_seconds": self.budget_seconds,
            "seconds": self.seconds,
            "ended_epoch": self.ended_epoch,
            "validated_weights": self.validated_weights,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            **saved_pace(self.pace, self.config),
            **self.repairs.to_state(),
            **({} if self.branch is None else {BRANCH: self.branch}),
        }

    def load_state_dict(self, state: dict[str, Any], origin: str) -> None:
        """Go on from a checkpoint, all of it.

        Raises:
            UserError: It is no whole checkpoint of this model, or of other data than the run's.
        """
        before, saved = checked_state(state, origin)
        _refuse_other_data(saved, self.data, origin)
        self.data = replace(self.data, before=saved.before)
        self.restore(state, origin)
        self.repairs, self.branch = Repairs.of(state, origin), state.get(BRANCH)
        self.watch = Watch(**state["watch"])
        self.cursor = Cursor(**state["cursor"])
        self.totals = EpochTotals(**state["totals"])
        self.planned_steps = int(state["planned_steps"])
        self._resize(before)
        self.budget_seconds = state.get("budget_seconds")
        self.seconds = float(state["seconds"])
        self.ended_epoch, self.pace = bool(state["ended_epoch"]), pace_of(state, self.config)
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and self.shares:  # of rank 0, whose card is the first
            torch.cuda.set_rng_state(state["random_cuda"][0])
        elif state["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])

    def _resize(self, before: Config) -> None:
        """Count in this configuration's steps what was counted in those of another batch."""
        now, cursor, patches = self.config.data, self.cursor, before.data.batch
        per_epoch = before.data.sampling.patches_per_epoch // patches
        place = Place(cursor.step, cursor.batch, self.planned_steps, per_epoch, patches)
        place = resized(place, now.batch, self.steps_per_epoch)
        cursor.step, cursor.batch, self.planned_steps = place.step, place.batch, place.planned

    def restore(self, state: dict[str, Any], origin: str) -> None:
        """What a rollback brings back: weights, optimiser, rate, averages and loss scale, together.

        So do the changes of objective, schedule and optimiser that held then. The data go on where they are, since the
        same patches with the same state would lead to the same place.
        """
        self.adopt(Repairs.of(state, origin).changes)
        load_weights(self.model, state["model"], origin)
        load_optimiser(self.optimiser, state["optimiser"])
        self.rate.load_state_dict(state["rate"])
        for part, saved in ((self.average, state["average"]), (self.swa, state["swa"]), (self.scaler, state["scaler"])):
            if part is not None and saved is not None:
                part.load_state_dict(saved)

    def roll_back(self, state: dict[str, Any], origin: str) -> None:
        """Restore an earlier state in the middle of a run; losses under another objective are forgotten."""
        weights = self.repairs.changes.weights
        self.restore(state, origin)
        if self.repairs.changes.weights != weights:
            self.watch.forget_totals()


def _refuse_other_data(saved: TrainedOn, now: TrainedOn, origin: str) -> None:
    """A run goes on with the data that it began with."""
    if saved.dataset != now.dataset:
        raise UserError(
            f"{origin} belongs to a run on the data set {saved.dataset[:12]}, data.dataset is {now.dataset[:12]}: its "
            "images, labels or statistics are others; put the data set back, or start a new run with --out"
        )
    if (saved.train, saved.validation) != (now.train, now.validation):
        lost = sorted(set(saved.validation) ^ set(now.validation))
        raise UserError(
            f"{origin} belongs to a run that held out {', '.join(saved.validation)}; fold {now.fold} of the folds file "
            f"now differs in {', '.join(lost) or 'its training cases'}: put the file back, name the right one with "
            "-o data.folds=FILE, or start a new run with --out"
        )


def build_optimiser(model: nn.Module, settings: Sgd | AdamW, *, fused: bool | None = None) -> Optimizer:
    """The configured optimiser over all parameters; its learning rate belongs to `LearningRate`.

    Args:
        model: On its device.
        settings: Of the optimiser.
        fused: One kernel for all weights, which can leave a step out without the host; None where they are on CUDA.
    """
    if fused is None:
        fused = all(one.device.type == "cuda" for one in model.parameters())
    if isinstance(settings, Sgd):
        return torch.optim.SGD(
            model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
            fused=fused or None,
        )
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=fused or None,
    )


def fresh_state(
    config: Config,
    device: torch.device,
    precision: Precision,
    *,
    steps_per_epoch: int,
    prior: float,
    data: TrainedOn = NO_DATA,
    initial: InitialWeights | None = None,
) -> TrainingState:
    """The state before the first step; where it is not told other weights, they are a function of the seed.

    Args:
        config: The run.
        device: Where the model goes.
        precision: Decides the memory format, and whether the loss is scaled.
        steps_per_epoch: Of the loader.
        prior: Surface share of the training labels, at which the first logits start.
        data: Data set and cases, which every checkpoint names.
        initial: Weights of another run or a bundle.
    """
    torch.manual_seed(config.seed)
    model = build_model(config.model, prior=prior)
    if initial is not None:
        model.load_state_dict(initial.weights)
    model = model.to(device=device, memory_format=precision.memory_format)  # type: ignore[call-overload]
    optimiser = build_optimiser(model, config.optimiser)
    training = config.training
    return TrainingState(
        config=config,
        data=data,
        model=model,
        optimiser=optimiser,
        rate=LearningRate(optimiser, config.optimiser.learning_rate, config.schedule, training.swa, steps_per_epoch),
        average=MovingAverage(model, training.average) if training.average else None,
        swa=EqualAverage(model, training.swa) if training.swa else None,
        scaler=torch.amp.GradScaler(device.type) if precision.name == "fp16" else None,
        planned_steps=training.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        pace=Pace(training.validate_every_epochs),
    )
