"""What one training holds open, and what it does beside its steps: resume, checkpoints, validations, the last word."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch

from volumen.config.compare import diff_configs
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset, surface_share
from volumen.data.device.choice import Loader, loader_for
from volumen.data.packed import DamagedDataError, Verification
from volumen.data.sampling import PatchDataset
from volumen.inference.recipe import predictor_of
from volumen.losses import CompositeLoss
from volumen.losses.targets import target_makers
from volumen.monitors.criteria import CriteriaWatch, watch_criteria
from volumen.monitors.diagnosis import SICK, UNCLEAR, Diagnosis, diagnose
from volumen.monitors.history import OURS, read_history, seen_of, setting_of
from volumen.monitors.picture import Picture
from volumen.monitors.sign import Sign
from volumen.monitors.watching import Monitors
from volumen.runs.folder import RunFolder
from volumen.runs.records import read_run_logs
from volumen.runs.saved import TrainedOn, checked_state
from volumen.runs.scales import NO_SCALES, TOTAL, TRAIN, VALIDATION, ProgressScales
from volumen.runtime import Precision, choose_precision, machine_description
from volumen.system.memory import peak_bytes
from volumen.system.stopping import InterruptedBySignal, StopWanted
from volumen.training.averaging import Average, averaged_model
from volumen.training.budget import Planner
from volumen.training.distributed import ALONE, World, forward_of
from volumen.training.initial import InitialWeights, Materials
from volumen.training.listener import Listener, Outcome
from volumen.training.objective import phase_at, precomputed_targets
from volumen.training.probe import Probe
from volumen.training.readings import MOST_STEPS, Readings
from volumen.training.recorded import Recorder
from volumen.training.repairs import Repairs
from volumen.training.state import TrainingState, fresh_state
from volumen.training.step import Forward, NonFiniteError
from volumen.training.validate import Truths, Validation, validate
from volumen.training.watch import Verdict

REFRESH_BATCHES = 50  # patches that averaged weights see before their normalisation statistics are trusted

SignsOf = Callable[["Session"], Sequence[Sign]]
"""What is seen of a run after a validation."""


@dataclass
class Session:
    """What the parts of one training share."""

    config: Config
    run: RunFolder
    listener: Listener
    device: torch.device
    precision: Precision
    dataset: PreparedDataset
    held_out: tuple[str, ...]
    verification: Verification
    patches: PatchDataset
    loader: Loader
    state: TrainingState
    initial: InitialWeights | None
    """What a new run begins with, where it is another's weights."""
    signs_of: SignsOf
    scales: ProgressScales = NO_SCALES
    world: World = ALONE

    def __post_init__(self) -> None:
        shapes = [self.dataset.case(name).shape for name in self.held_out]
        self.planner = Planner(self.state, shapes, self.event, self.world)
        self.predictor = predictor_of(self.state.model, self.config, self.device, self.precision)
        monitoring = self.config.training.monitoring
        every = None if monitoring is None else monitoring.probe_every_steps
        acts = self.world.from_first(lambda: bool(getattr(self.listener, "acts_between_steps", False)))
        at_once = self.state.scaler is not None or acts
        late = not self.world.is_alone and self.device.type == "cuda"  # by the clock ranks would read apart
        self.readings = Readings(self.state.model, self.device, at_once=at_once, every=MOST_STEPS if late else None)
        self.forward: Forward = forward_of(self.state.model, self.world, leaves_out=self.config.model.kind != "unet")
        records = self.config.training.cuda_graph == "auto" and self.device.type == "cuda" and self.world.is_alone
        self.recorder = Recorder(self.state.model, self.event) if records else None
        self.monitors: Monitors | None = None
        self.findings: tuple[dict[str, Any], ...] = ()
        self.diagnosis: Diagnosis | None = None
        """After the last validation."""
        self._said, self.truths = ("", ""), Truths()
        self.criteria = CriteriaWatch()
        self.probe = Probe(
            self.state.model, self.precision, self.device, every, partial(self.metric, "probe"), self.world.size
        )

    def watch(self, *, resumed: bool = False) -> None:
        """Begin to watch; a resumed run's monitors see first what it recorded up to its checkpoint."""
        if not self.world.is_first:
            return
        experiment, facts = self.config.experiment, setting_of(self.config, self.scales)
        watches = bool(experiment.criteria) or self.config.training.monitoring is not None
        before = read_history(self.run.path, self.state.cursor.step).records if resumed and watches else ()
        self.criteria = watch_criteria(experiment, facts, self.scales, before)
        if self.config.training.monitoring is None:
            return
        self.monitors = Monitors(facts)
        if resumed:
            self.findings = read_run_logs(self.run.path).findings or ()
            for record in before:
                self.monitors.see(record)

    def diagnose(self) -> Diagnosis | None:
        """What the run has, by all that was seen; an event where it is another than the last time."""
        if self.monitors is None:
            return None
        found = self.diagnosis = diagnose(Picture(self.monitors.memory, self.findings))
        now = (found.state, found.causes[0].name if found.causes else "")
        if now != self._said and found.state != UNCLEAR:
            if found.state == SICK or self._said[0] == SICK:
                said = {"symptoms": list(found.symptoms), "causes": {one.name: one.confidence for one in found.causes}}
                self.event({"kind": "diagnosis", "state": found.state, **said})
            self._said = now
        return found

    def _watched(self, record: dict[str, Any]) -> None:
        """Let the monitors see a record, and tell what they say."""
        cursor = self.state.cursor
        seen = seen_of({"step": cursor.step, "epoch": cursor.epoch, **record})
        self.criteria.see(seen)
        if self.monitors is not None and seen is not None:
            for sign in self.monitors.see(seen):
                self.event(sign.event())

    def event(self, event: dict[str, Any]) -> None:
        """Write an event and show it."""
        self.run.event(self.state.cursor.step, self.state.cursor.epoch, event)
        self.listener.event(event)
        if event["kind"] not in OURS:
            self._watched(event)

    def warning(self, message: str) -> None:
        """An event that is nothing but a sentence."""
        self.event({"kind": "warning", "message": message})

    def metric(self, kind: str, record: dict[str, Any]) -> None:
        """Write a record of numbers under the step and epoch of now."""
        cursor = self.state.cursor
        self.run.metric({"step": cursor.step, "epoch": cursor.epoch, "kind": kind, **record})
        self._watched({"kind": kind, **record})
        if kind == "probe":
            self.diagnose()

    def status(self, how: str, **details: Any) -> None:
        """Replace the run's status."""
        state, watch = self.state, self.state.watch
        done, planned = state.cursor.step, state.planned_steps
        best = {"metric": self.config.training.selection_metric, "value": watch.best_metric, "epoch": watch.best_epoch}
        repairs = {} if state.repairs == Repairs() else {"repairs": state.repairs.record()}
        self.run.status(
            state=how,
            epoch=state.cursor.epoch,
            planned_epochs=state.planned_epochs,
            step=done,
            planned_steps=planned,
            best=best if watch.best_epoch >= 0 else None,
            seconds=state.seconds,
            seconds_left=state.seconds / done * max(planned - done, 0) if done else None,
            machine=machine_description(self.device),
            **repairs,
            **details,
        )

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, with what has changed since, which is said.

        Raises:
            UserError: No whole checkpoint, or a length that leaves nothing to do.
        """
        state, budget = self.state, self.state.budget_seconds
        saved = self.run.take_newest(self.warning)
        state.load_state_dict(saved, str(self.run.checkpoints.folder))
        changes = diff_configs(checked_state(saved, self.run.path)[0], self.config)
        self.planner.begin_session()
        if budget is not None or any(each.key == "training.epochs" for each in changes):
            self.planner.plan_anew(budget, self.run.path)
        self.run.reserve()
        if changes:
            self.run.replace_config(self.config)
            self.event({"kind": "changed", **{each.key: f"{each.left} -> {each.right}" for each in changes}})
        self.event({"kind": "resumed", "batch": state.cursor.batch})

    def named(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch with the names of its cases, for messages."""
        return {**batch, "case": [self.patches.case_ids[index] for index in batch["meta"]["case"].tolist()]}

    def epoch_record(self) -> dict[str, Any]:
        """The means of the running epoch, as they stand in `metrics.jsonl`."""
        record = {
            **self.state.totals.record(),
            "learning_rate": self.state.rate.value,
            "memory_gb": peak_bytes() / 2**30,
        }
        return {**record, "progress": self._progress(TRAIN, record["total"], record["terms"])}

    def judge(self, objective: CompositeLoss) -> tuple[Validation, Verdict]:
        """Validate, and decide what follows; at the end of the run the equal average is validated, too.

        Raises:
            StopWanted: A signal asked to stop meanwhile; the state is as before.
        """
        state, training = self.state, self.config.training
        validation = self._validate(objective, state.average, "validation", state.validated_weights)
        before, metric = replace(state.watch), validation.metrics[training.selection_metric]
        verdict = state.watch.after_validation(training, state.cursor.epoch, validation.total, metric)
        ends = verdict.stop or state.cursor.step >= state.planned_steps
        if ends and state.swa is not None and state.swa.count:
            try:
                self._validate(objective, state.swa, "validation_swa", "swa")
            except StopWanted:  # both validations are done again
                state.watch = before
                raise
        self.diagnose()
        for event in self.criteria.changes():
            self.event(event)
        reduced = state.rate.after_validation(validation.total)
        if reduced is not None:
            self.event(reduced)
        return validation, verdict

    def _validate(self, objective: CompositeLoss, average: Average | None, kind: str, weights_of: str) -> Validation:
        """Score an average's weights, with normalisation statistics of their own, or the plain ones; and record it."""
        validation = self.score(objective, average)
        progress = self._progress(VALIDATION, validation.total, validation.raw)
        self.metric(kind, {**validation.record(), "progress": progress, "weights_of": weights_of})
        return validation

    def score(self, objective: CompositeLoss, average: Average | None) -> Validation:
        """Validate an average's weights, or the plain ones, and write nothing down."""
        state = self.state
        images = (batch["image"].to(self.device) for batch in islice(self.loader.epoch(0), REFRESH_BATCHES))
        with averaged_model(state.model, average, images):
            state.model.eval()
            return validate(
                self.predictor,
                objective,
                self.dataset,
                self.held_out,
                self.config,
                state.cursor.epoch,
                progress=lambda done, of: self.listener.validating(state, done, of),
                truths=self.truths,
                world=self.world,
            )

    def _progress(self, kind: str, total: float, terms: Mapping[str, float]) -> dict[str, float]:
        """Losses on the scale on which 1 is the best constant and 0 the best attainable."""
        phase = phase_at(self.config.loss, self.state.cursor.epoch)
        progress = self.scales.read("start" if phase is None else phase.name, kind, total, terms)
        if self.state.repairs.changes.weights:  # the scale of the sum is another objective's
            progress.pop(TOTAL, None)
        return progress

    def save(self, *, best: bool = False, best_loss: bool = False, waits: bool = True) -> None:
        """Write a checkpoint, of data that are known to be whole; who has been asked to stop does not wait for that."""
        if waits:
            self.world.gather(self.verification.confirm)
        self.world.gather(self.verification.raise_if_damaged)
        self.state.trusted = self.verification.is_done
        cursor = self.state.cursor
        state = self.state.state_dict()
        self.run.checkpoints.save(state, step=cursor.step, epoch=cursor.epoch, best=best, best_loss=best_loss)

    def end(self, how: str, reason: str = "", **details: Any) -> Outcome:
        """Write and tell how the run ended."""
        watch, why = self.state.watch, {"reason": reason} if reason else {}
        for event in () if how == "stopped" else self.criteria.last_word():
            self.event(event)
        self.event({"kind": how, **why, **details})
        self.status(how, **why)
        self.run.release()
        return Outcome(how, self.state.cursor.epoch, watch.best_metric, watch.best_epoch, reason)

    def fail(self, error: BaseException) -> None:
        """Leave the run's last word, where it can still be written."""
        self.run.release()
        kind, reason = "failed", str(error) or type(error).__name__
        if isinstance(error, NonFiniteError):
            kind = "non_finite"
        elif isinstance(error, (KeyboardInterrupt, InterruptedBySignal)):
            kind, reason = "interrupted", "ended at once; the last checkpoint stands"
        with suppress(OSError):
            if isinstance(error, DamagedDataError):
                struck = self.run.checkpoints.distrust()
                reason += f"; {', '.join(struck)} had seen unverified data and went" if struck else ""
            self.event({"kind": kind, "message": reason})
        with suppress(OSError):
            self.status("stopped" if kind == "interrupted" else "failed", reason=reason)


@contextmanager
def session_of(
    config: Config, run: RunFolder, listener: Listener, materials: Materials,
    *, begins: bool, signs_of: SignsOf, world: World = ALONE,
) -> Iterator[Session]:  # fmt: skip
    """Open all that a training needs, with initial weights where it `begins`; nothing is written yet.

    Raises:
        UserError: Wrong data set, fold or initial weights, or a device or precision that is not to be had.
    """
    world.part_of(config.data.batch)
    device = world.device_of(config.device)
    precision = choose_precision(config.precision, device)
    dataset, fold = materials.dataset, materials.fold
    verification = Verification(list(dataset.files((*fold.train, *fold.validation))) if world.local_rank == 0 else [])
    makers = target_makers(precomputed_targets(config.loss))
    patches = PatchDataset(dataset.trusting(), fold.train, config.data, config.seed, makers)
    part = (world.rank, world.size)
    loader = loader_for(patches, device, config.data.workers, part=part, died=lambda text: session.warning(text))
    initial = materials.initial if begins else None
    seen, empty = initial.seen if initial else (), dataset.meanings.empty
    state = fresh_state(
        config,
        device,
        precision,
        steps_per_epoch=loader.batches_per_epoch,
        prior=surface_share(dataset, fold.train),
        data=TrainedOn(dataset.identity, config.data.fold, fold.train, fold.validation, seen, empty),
        initial=initial,
    )
    state.run, state.shares = run.owner, not world.is_alone and device.type == "cuda"
    session = Session(
        config, run, listener, device, precision, dataset, fold.validation, verification, patches, loader, state,
        initial, signs_of=signs_of, world=world,
    )  # fmt: skip
    with closing(loader), closing(verification):
        yield session
