"""The training loop: a run from its first step, or from where it stopped, to its end.

Read `run_training` top to bottom; all that it does to the weights is in `step.py`, all that it remembers in `state.py`,
all that it decides after a validation in `watch.py`, and the learning rate is written in `schedule.py` only.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from volumen.config import diff_configs
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset, surface_share
from volumen.data.folds import load_folds
from volumen.data.loader import PatchLoader
from volumen.data.packed import DamagedDataError, Verification
from volumen.data.sampling import PatchDataset
from volumen.data.spacing import not_cubes
from volumen.errors import UserError
from volumen.inference import Predictor
from volumen.losses import CompositeLoss
from volumen.losses.targets import target_makers
from volumen.runtime import Precision, choose_device, choose_precision
from volumen.system.locks import hold
from volumen.system.memory import peak_bytes
from volumen.system.stopping import InterruptedBySignal, StopRequest, StopWanted
from volumen.training.averaging import Average, averaged_model
from volumen.training.budget import Planner
from volumen.training.initial import initial_weights
from volumen.training.listener import Listener, Outcome
from volumen.training.noise import inject_noise, noise_is_due
from volumen.training.objective import build_objective, phase_at, precomputed_targets, weights_at
from volumen.training.progress import NO_SCALES, TRAIN, VALIDATION, ProgressScales
from volumen.training.run_folder import WORK, Audited, RunFolder, run_owner
from volumen.training.saved import TrainedOn, checked_state
from volumen.training.state import fresh_state
from volumen.training.step import NonFiniteError, training_step
from volumen.training.telling import Telling
from volumen.training.totals import EpochTotals
from volumen.training.validate import Validation, validate
from volumen.training.watch import Verdict, plan_scale

REFRESH_BATCHES = 50  # patches that averaged weights see before their normalisation statistics are trusted


def run_training(
    config: Config,
    folder: Path,
    listener: Listener,
    *,
    resume: bool = False,
    time_budget_seconds: float | None = None,
    audited: Audited | None = None,
    meant: Sequence[str] = (),
) -> Outcome:
    """Train a configuration into a run folder.

    Args:
        config: The run.
        folder: Its folder: new, or with `resume` one that was stopped.
        listener: Shows progress.
        resume: Go on from the newest whole checkpoint; the result equals never having stopped.
        time_budget_seconds: Plan as many steps (at most the configured epochs) as fit, earlier sittings included. A run
            that is gone on with keeps the budget it had, unless it gets another one or other epochs.
        audited: What an audit of a new run said, for its folder.
        meant: Keys of the configuration that the user set by name.

    Raises:
        UserError: Wrong folder, data set, fold or checkpoint; another process trains there; a length that leaves a run
            that is gone on with nothing to do; or a file of the data is not what `prepare` wrote, and the last
            checkpoint whose data were whole stands.
        NonFiniteError: A loss or gradient is NaN or infinite; the last checkpoint stands.
    """
    with _held(folder, resume), StopRequest() as stop:
        run = RunFolder.reopen(folder, config, meant) if resume else RunFolder.claim(folder)
        trainer = _Trainer(config, run, listener, time_budget_seconds, begins=not resume)
        with closing(trainer.loader), closing(trainer.verification):
            if resume:
                trainer.resume()
            else:  # only now, when nothing about data set, fold or model can be wrong any more, is the folder made
                run.write_config(config)
                if trainer.initial is not None:
                    trainer.tell.event({"kind": "initial_weights", **trainer.initial.record})
                if audited is not None:
                    trainer.tell.event(run.write_audit(audited))
            trainer.scales = ProgressScales.load(folder, run.owner)
            try:
                return trainer.run(stop)
            except BaseException as error:
                trainer.fail(error)
                if isinstance(error, OSError) and not folder.is_dir():
                    raise UserError(
                        f"{folder} was removed while it was trained into: nothing is left to go on with"
                    ) from error
                raise


@contextmanager
def _held(folder: Path, resume: bool) -> Iterator[None]:
    """The folder, held by this process alone; one that was made for it and stayed empty goes again."""
    if resume:
        run_owner(folder)
    elif folder.exists() and not folder.is_dir():
        RunFolder.claim(folder)
    try:
        with hold(folder, WORK):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()


class _Trainer:
    """What the parts of one run share. Its `run` is the loop."""

    def __init__(
        self, config: Config, run: RunFolder, listener: Listener, budget: float | None, *, begins: bool
    ) -> None:
        self.config, self.run_folder, self.listener = config, run, listener
        self.device = choose_device(config.device)
        self.precision: Precision = choose_precision(config.precision, self.device)
        self.dataset = PreparedDataset.open(Path(config.data.dataset))
        fold = load_folds(config.data.folds, self.dataset).fold(config.data.fold)
        self.validation_cases = fold.validation
        self.verification = Verification(list(self.dataset.files((*fold.train, *fold.validation))))
        makers = target_makers(precomputed_targets(config.loss))
        self.patches = PatchDataset(self.dataset.trusting(), fold.train, config.data, config.seed, makers)
        self.loader = PatchLoader(
            self.patches,
            batch=config.data.batch,
            workers=config.data.workers,
            died=lambda text: self.tell.warning(text),
        )
        self.initial = initial_weights(config.model) if begins else None
        self.state = fresh_state(
            config,
            self.device,
            self.precision,
            steps_per_epoch=self.loader.batches_per_epoch,
            prior=surface_share(self.dataset, fold.train),
            data=TrainedOn(
                self.dataset.identity,
                config.data.fold,
                fold.train,
                fold.validation,
                self.initial.seen if self.initial else (),
                self.dataset.meanings.empty,
            ),
            initial=self.initial,
        )
        self.state.run, self.state.budget_seconds = run.owner, budget
        self.tell = Telling(config, run, listener, self.state)
        self.predictor = Predictor(
            self.state.model,
            tile=config.tile,
            overlap=config.inference.overlap,
            device=self.device,
            precision=self.precision,
            mirror=config.inference.mirror,
            rotate=config.inference.rotate,
        )
        self.objective: CompositeLoss = build_objective(config.loss, 0)
        self.scales = NO_SCALES
        self._gradient_norm = 0.0
        shapes = [self.dataset.case(name).shape for name in self.validation_cases]
        self.planner = Planner(self.state, shapes, self.tell.event)

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, with what has changed since, which is said.

        Raises:
            UserError: No whole checkpoint, or a length that leaves nothing to do.
        """
        state, budget = self.state, self.state.budget_seconds
        saved = self.run_folder.checkpoints.load_latest(self.tell.warning)
        state.load_state_dict(saved, str(self.run_folder.checkpoints.folder))
        changes = diff_configs(checked_state(saved, self.run_folder.path)[0], self.config)
        self.planner.begin_sitting()
        if budget is not None or any(each.key == "training.epochs" for each in changes):
            self.planner.plan_anew(budget, self.run_folder.path)
        self.run_folder.reserve()
        if changes:
            self.run_folder.replace_config(self.config)
            self.tell.event({"kind": "changed", **{each.key: f"{each.left} -> {each.right}" for each in changes}})
        self.tell.event({"kind": "resumed", "batch": state.cursor.batch})

    def run(self, stop: StopRequest) -> Outcome:
        """Epochs until the planned end, early stopping, or a signal."""
        state, out_of_time = self.state, False
        self.verification.start()
        self.listener.started(self.run_folder.path, self.config, self._facts())
        while state.cursor.step < state.planned_steps or state.ended_epoch:
            try:
                if not state.ended_epoch:
                    self._begin_epoch()
                    self._train_epoch(stop)
                out_of_time = state.cursor.batch < self.loader.batches_per_epoch
                verdict = self._end_epoch()
            except StopWanted:
                self._save(best=False, waits=False)
                return self._end("stopped", signal=stop.name)
            if verdict.is_best or verdict.is_best_loss:
                self._save(best=verdict.is_best, best_loss=verdict.is_best_loss)
            ends = verdict.stop or state.cursor.step >= state.planned_steps
            if (not ends and self._act(verdict)) or not (verdict.is_best or verdict.is_best_loss):
                self._save(best=False)
            if verdict.stop:
                return self._end("early_stopping")
            if stop.requested and not ends:
                return self._end("stopped", signal=stop.name)
        return self._end("out_of_time" if out_of_time or state.planned_steps < state.configured_steps else "finished")

    def _begin_epoch(self) -> None:
        """Objective of the epoch; weight noise where it is due."""
        state, epoch = self.state, self.state.cursor.epoch
        self.objective = build_objective(self.config.loss, epoch)
        if state.cursor.batch > 0:
            return
        phase = phase_at(self.config.loss, epoch)
        if phase is not None and phase.start_epoch == epoch:
            state.watch.forget_totals()
            state.rate.forget_plateau()
            self.tell.event({"kind": "phase", "name": phase.name, "weights": weights_at(self.config.loss, epoch)})
        noise = self.config.training.weight_noise
        if noise is not None and noise_is_due(noise, epoch):
            self.tell.event(inject_noise(state.model, noise, self.config.seed, epoch))

    def _train_epoch(self, stop: StopRequest) -> None:
        """The epoch's steps from where the cursor is.

        Raises:
            StopWanted: A signal asked to stop before its end.
        """
        state, cursor = self.state, self.state.cursor
        steps = self.loader.batches_per_epoch
        state.model.train()
        waited = time.perf_counter()
        for batch in self.loader.epoch(cursor.epoch, start_batch=cursor.batch):
            began = time.perf_counter()
            state.rate.apply(cursor.step / steps, state.planned_steps / steps)
            result = training_step(
                state.model,
                self.objective,
                state.optimiser,
                {**batch, "case": [self.patches.case_ids[index] for index in batch["meta"]["case"].tolist()]},
                precision=self.precision,
                device=self.device,
                gradient_clip=self.config.training.gradient_clip,
                scaler=state.scaler,
            )
            if state.average is not None:
                state.average.update(state.model)
            cursor.step, cursor.batch = cursor.step + 1, cursor.batch + 1
            ended = time.perf_counter()
            state.totals.add(
                result,
                patches=len(batch["image"]),
                centred=int(batch["meta"]["centred"].sum()),
                seconds=ended - waited,
                loader_seconds=began - waited,
            )
            self.listener.stepped(state, result, steps)
            state.seconds += ended - waited
            waited = ended
            if self.planner.is_early:
                self.planner.replan()
            if cursor.step >= state.planned_steps:
                return
            if stop.requested and cursor.batch < steps:
                raise StopWanted

    def _end_epoch(self) -> Verdict:
        """Averages, validation, records; the cursor moves on to the next epoch.

        Raises:
            StopWanted: A signal asked to stop during the validation; the state is as before it.
        """
        state, epoch, began = self.state, self.state.cursor.epoch, time.perf_counter()
        record = {**state.totals.record(), "learning_rate": state.rate.value, "memory_gb": peak_bytes() / 2**30}
        record["progress"] = self._progress(TRAIN, record["total"], record["terms"])
        self._gradient_norm = record["gradient_norm"]
        if not state.ended_epoch:
            if state.swa is not None and state.swa.after_epoch(state.model, epoch):
                self.tell.event({"kind": "swa_update", "averaged": state.swa.count})
            self.tell.metric("train", record)
            if state.cursor.step < state.planned_steps:  # the schedule has ended otherwise: nothing is added to it
                self.planner.replan()
            state.ended_epoch = True
        validation, verdict = None, Verdict()
        last = state.cursor.step >= state.planned_steps
        if last or (epoch + 1) % self.config.training.validate_every_epochs == 0:
            validation = self._validate(state.average, "validation", state.validated_weights)
            metric = validation.metrics[self.config.training.selection_metric]
            before = state.watch.state_dict()
            verdict = state.watch.after_validation(self.config.training, epoch, validation.total, metric)
            if (last or verdict.stop) and state.swa is not None and state.swa.count:
                try:
                    self._validate(state.swa, "validation_swa", "swa")
                except StopWanted:  # both validations are done again
                    state.watch.load_state_dict(before)
                    raise
            reduced = state.rate.after_validation(validation.total)
            if reduced is not None:
                self.tell.event(reduced)
        state.cursor.epoch, state.cursor.batch, state.totals = epoch + 1, 0, EpochTotals()
        state.ended_epoch = False
        self.planner.validation_seconds = time.perf_counter() - began
        state.seconds += self.planner.validation_seconds
        self.listener.epoch_ended(state, record, validation)
        self.tell.status("running")
        return verdict

    def _validate(self, average: Average | None, kind: str, weights_of: str) -> Validation:
        """Score an average's weights, with normalisation statistics of their own, or the plain ones; and record it."""
        state = self.state
        with averaged_model(state.model, average, self._images()):
            state.model.eval()
            validation = validate(
                self.predictor,
                self.objective,
                self.dataset,
                self.validation_cases,
                self.config,
                state.cursor.epoch,
                progress=lambda done, of: self.listener.validating(state, done, of),
            )
        progress = self._progress(VALIDATION, validation.total, validation.raw)
        self.tell.metric(kind, {**validation.record(), "progress": progress, "weights_of": weights_of})
        return validation

    def _progress(self, kind: str, total: float, terms: Mapping[str, float]) -> dict[str, float]:
        """Losses on the scale on which 1 is the best constant and 0 the best attainable."""
        phase = phase_at(self.config.loss, self.state.cursor.epoch)
        return self.scales.read("start" if phase is None else phase.name, kind, total, terms)

    def _images(self) -> Iterator[torch.Tensor]:
        """Training patches for normalisation statistics."""
        for batch in islice(self.loader.epoch(0), REFRESH_BATCHES):
            yield batch["image"].to(self.device)

    def _act(self, verdict: Verdict) -> bool:
        """Rollback and intervention, each an event; tells whether the state was changed."""
        state = self.state
        if not (verdict.rollback or verdict.intervene):
            return False
        saved = self.run_folder.checkpoints.load_best(self.tell.warning)
        state.restore(saved, str(self.run_folder.checkpoints.folder))
        cause = "intervention" if verdict.intervene else "catastrophic_degradation"
        self.tell.event({"kind": "rollback", "cause": cause, "to_epoch": state.watch.best_epoch, **verdict.numbers})
        policy = self.config.training.intervention
        if verdict.intervene and policy is not None:
            number = state.watch.note_intervention()
            scale = plan_scale(policy, number, self._gradient_norm)
            event = state.rate.multiply(scale, cause=f"plan:{policy.formula}")
            self.tell.event({**event, "plateau": number, "gradient_norm": self._gradient_norm})
        return True

    def _save(self, *, best: bool, best_loss: bool = False, waits: bool = True) -> None:
        """Write a checkpoint, of data that are known to be whole; who has been asked to stop does not wait for that."""
        if waits:
            self.verification.confirm()
        self.verification.raise_if_damaged()
        self.state.trusted = self.verification.is_done
        cursor = self.state.cursor
        self.run_folder.checkpoints.save(
            self.state.state_dict(), step=cursor.step, epoch=cursor.epoch, best=best, best_loss=best_loss
        )

    def fail(self, error: BaseException) -> None:
        """Leave the run's last word, where it can still be written."""
        self.run_folder.release()
        kind, reason = "failed", str(error) or type(error).__name__
        if isinstance(error, NonFiniteError):
            kind = "non_finite"
        elif isinstance(error, (KeyboardInterrupt, InterruptedBySignal)):
            kind, reason = "interrupted", "ended at once; the last checkpoint stands"
        with suppress(OSError):
            if isinstance(error, DamagedDataError):
                struck = self.run_folder.checkpoints.distrust()
                reason += f"; {', '.join(struck)} had seen unverified data and went" if struck else ""
            self.tell.event({"kind": kind, "message": reason})
        with suppress(OSError):
            self.tell.status("stopped" if kind == "interrupted" else "failed", reason=reason)

    def _end(self, how: str, **details: Any) -> Outcome:
        watch = self.state.watch
        self.tell.event({"kind": how, **details})
        self.tell.status(how)
        self.run_folder.release()
        return Outcome(how, self.state.cursor.epoch, watch.best_metric, watch.best_epoch)

    def _facts(self) -> dict[str, Any]:
        cases = (*self.patches.case_ids, *self.validation_cases)
        return {
            "device": str(self.device),
            "precision": self.precision.name,
            "parameters": sum(parameter.numel() for parameter in self.state.model.parameters()),
            "training_cases": len(self.patches.case_ids),
            "validation_cases": len(self.validation_cases),
            "steps_per_epoch": self.loader.batches_per_epoch,
            "notes": [*self.patches.notes, *not_cubes({name: self.dataset.spacing(name) for name in cases})],
        }
