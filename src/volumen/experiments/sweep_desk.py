"""Where workers get their trials: each by one of them, none lost and none counted twice, whoever dies when.

What is known stands in the journal, one line a fact, and is decided by who holds the journal. Who works on a trial
holds its folder in `claims/` with the system's lock, which dies with the process. Locks of other machines may not be
seen: their workers leave a beat there, and one that has not changed for a while, by the clock of who looks, is a dead
one's. A worker whose trial was given to another reports nothing: its claim's token is not the journal's any more.
"""

import json
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volumen.config.dump import config_hash
from volumen.config.problems import ConfigError
from volumen.config.schema import Config
from volumen.experiments.sweep_beats import Pulse, beat, machine
from volumen.experiments.sweep_halving import (
    BASELINE,
    DONE,
    NEW,
    STOPPED,
    WAIT,
    Claim,
    Entry,
    Promote,
    Value,
    next_job,
    ranked,
)
from volumen.experiments.sweep_journal import SweepJournal
from volumen.experiments.sweep_plan import SweepPlan
from volumen.experiments.sweep_sampling import GRID, distributions, draw
from volumen.system.locks import HeldError, hold

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

TRIALS, CONFIRM, CLAIMS, WORK = "trials", "confirm", "claims", "sweep"
MOST_DEATHS = 5
"""Workers that end one after the other without having saved anything new of a trial; then it is given up."""
MOST_DRAWS = 20
"""Draws of a trial that would repeat another one."""


@dataclass
class Job:
    """A trial to be trained to a rung, by this process alone until it is closed."""

    study: str
    """`trials`, or `confirm` for a repeat with another seed."""
    entry: Entry
    claim: Claim
    config: Config
    epochs: int
    folder: Path
    """Its run folder."""
    claims: Path
    """The folder that is held."""
    held: ExitStack = field(repr=False)

    def close(self) -> None:
        """Give the folder back."""
        self.held.close()


@dataclass(frozen=True)
class Reached:
    """A rung, with the metric's value there."""

    value: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Refused:
    """A trial that ends here, and why."""

    reason: str


class Desk:
    """The journal of a sweep and what is decided by it."""

    def __init__(self, out: Path, plan: SweepPlan, progress_of: Callable[[Path], int] = lambda folder: 0) -> None:
        import optuna
        from optuna.storages import JournalStorage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.out, self.plan, self._progress_of = out, plan, progress_of
        self.journal = SweepJournal(out)
        with self.journal.held():
            self.storage: JournalStorage = JournalStorage(self.journal)  # type: ignore[arg-type]
        self._pulse = Pulse()
        self._hashes: dict[str, str] = {}

    @property
    def trials(self) -> int:
        """How many there are to be: the most that any command has asked for."""
        with self.journal.held():
            return int(self.storage.get_study_user_attrs(self._id(TRIALS)).get("trials", self.plan.trials))

    def want(self, trials: int) -> None:
        """Let there be so many trials at least."""
        with self.journal.held():
            known = self.storage.get_study_user_attrs(self._id(TRIALS)).get("trials", 0)
            if trials > known:
                self.storage.set_study_user_attr(self._id(TRIALS), "trials", trials)

    def entries(self, study: str = TRIALS) -> tuple[Entry, ...]:
        """The trials of a study as the journal has them now."""
        with self.journal.held():
            rungs = self._rungs(study)
            return tuple(_entry(one, rungs) for one in self.storage.get_all_trials(self._id(study), deepcopy=False))

    def take(self) -> Job | str:
        """A trial to work on; WAIT where others have to end first, DONE where nothing is left."""
        with self.journal.held():
            for study in (TRIALS, CONFIRM) if self.plan.confirm else (TRIALS,):
                if study == CONFIRM:
                    self._list_repeats()
                entries = self.entries(study)
                self._tell(study, entries)
                job: Job | str | None = self._orphan(study, entries)
                if job is None and study == TRIALS:
                    job = self._next(self.entries())
                elif job is None:
                    job = WAIT if any(one.is_wanted(self._rungs(study)) for one in self.entries(study)) else DONE
                if isinstance(job, Job) or job == WAIT:
                    return job
            self._tell(TRIALS, self.entries(), over=True)
            return DONE

    def report(self, job: Job, result: Reached | Refused) -> bool:
        """Write down what a trial came to; False where it is somebody else's by now, and nothing is written."""
        with self.journal.held():
            entry = self.entries(job.study)[job.entry.number]
            mine = entry.claim is not None and entry.claim.token == job.claim.token
            if not mine or entry.reason or len(entry.values) > job.claim.rung:
                return False
            trial = self._trial_id(job.study, entry.number)
            if isinstance(result, Refused):
                self.storage.set_trial_user_attr(trial, "reason", result.reason)
            else:
                self.storage.set_trial_user_attr(trial, "seconds", entry.seconds + result.seconds)
                self.storage.set_trial_intermediate_value(trial, job.epochs, float(result.value))
            self._tell(job.study, self.entries(job.study))
            return True

    def release(self, job: Job) -> None:
        """Give a trial back that is to be gone on with by whoever comes."""
        with self.journal.held():
            entry = self.entries(job.study)[job.entry.number]
            if entry.claim is not None and entry.claim.token == job.claim.token:
                self._claim(job.study, entry.number, Claim(job.claim.rung, deaths=job.claim.deaths, at=job.claim.at))

    def _rungs(self, study: str) -> tuple[int, ...]:
        return self.plan.rungs if study == TRIALS else self.plan.rungs[-1:]

    def _id(self, study: str) -> int:
        from optuna.study import StudyDirection

        try:
            return self.storage.get_study_id_from_name(study)
        except KeyError:
            return self.storage.create_new_study([StudyDirection.MAXIMIZE], study)

    def _trial_id(self, study: str, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._id(study), number)

    def _next(self, entries: Sequence[Entry]) -> Job | str:
        plan = self.plan
        while True:
            wanted = next_job(entries, plan.rungs, plan.reduction, self.trials)
            if isinstance(wanted, Promote):
                job = self._taken(TRIALS, entries[wanted.number], Claim(wanted.rung))
                return WAIT if job is None else job
            if wanted != NEW:
                return wanted
            number = len(entries)
            parameters, reason = self._drawn(number, entries)
            self._create(TRIALS, parameters, {"parameters": parameters, "reason": reason}, Claim(0))
            entries = self.entries()
            if not reason:
                job = self._taken(TRIALS, entries[number], Claim(0))
                return WAIT if job is None else job
            self._tell(TRIALS, entries)

    def _drawn(self, number: int, entries: Sequence[Entry]) -> tuple[dict[str, Value], str]:
        """What a new trial tries, and why that cannot be trained."""
        plan, reason, parameters = self.plan, "", dict[str, Value]()
        if number == BASELINE:
            return {}, ""
        before = {self._hash(one.parameters): one.number for one in reversed(entries)}
        own = Entry(BASELINE, plan.space.own(plan.config))
        known = [replace(one, parameters=own.parameters) if one.number == BASELINE else one for one in entries]
        for attempt in range(1 if plan.sampler == GRID else MOST_DRAWS):
            parameters = draw(plan.space, plan.sampler, plan.seed, number, known, plan.rungs, attempt)
            try:
                same = before.get(self._hash(parameters))
                plan.trial_config(number, parameters)
            except ConfigError as error:
                return parameters, "; ".join(
                    f"{one.key}: {one.text}" if one.key else one.text for one in error.problems
                )
            reason = "" if same is None else f"the same configuration as trial {same}"
            if not reason:
                break
        return parameters, reason

    def _hash(self, parameters: Any) -> str:
        text = json.dumps(dict(parameters), sort_keys=True)
        if text not in self._hashes:
            try:
                self._hashes[text] = config_hash(self.plan.trial_config(BASELINE, parameters))
            except ConfigError:
                self._hashes[text] = text
        return self._hashes[text]

    def _create(self, study: str, parameters: dict[str, Value], facts: dict[str, Any], claim: Claim) -> None:
        """A new trial in the journal: one line."""
        from optuna.trial import TrialState, create_trial

        kinds = distributions(self.plan.space)
        attributes = {**{key: value for key, value in facts.items() if value not in ("", None)}, "claim": asdict(claim)}
        template = create_trial(
            state=TrialState.RUNNING,
            params=parameters,
            distributions={key: kinds[key] for key in parameters},
            user_attrs=attributes,
        )
        self.storage.create_new_trial(self._id(study), template)

    def _claim(self, study: str, number: int, claim: Claim) -> None:
        self.storage.set_trial_user_attr(self._trial_id(study, number), "claim", asdict(claim))

    def _orphan(self, study: str, entries: Sequence[Entry]) -> Job | None:
        """A trial that should be worked on and that no living process has."""
        for entry in entries:
            if entry.is_wanted(self._rungs(study)) and entry.claim is not None:
                job = self._taken(study, entry, entry.claim)
                if job is not None:
                    return job
        return None

    def _taken(self, study: str, entry: Entry, before: Claim) -> Job | None:
        """A trial for this process; None where a living one has it, or where it is given up."""
        name = f"{entry.number:04d}" if study == TRIALS else f"{entry.of:04d}-seed{entry.seed}"
        claims, folder = self.out / CLAIMS / study / name, self.out / study / name
        held = ExitStack()
        try:
            held.enter_context(hold(claims, WORK))
        except HeldError:
            return None
        try:
            if before.token and self._pulse.beats(before.machine, claims):
                held.close()
                return None
            at = self._progress_of(folder)
            deaths = before.deaths + 1 if before.token and at <= before.at else 0 if at > before.at else before.deaths
            if deaths >= MOST_DEATHS:
                text = f"{deaths} processes ended while they worked on it, perhaps for want of memory"
                self.storage.set_trial_user_attr(self._trial_id(study, entry.number), "reason", text)
                held.close()
                return None
            token = secrets.token_hex(8)
            claim = Claim(before.rung, token, machine(), os.getpid(), deaths, at)
            beat(claims, token)
            config = self.plan.trial_config(entry.number, entry.parameters, entry.seed if study == CONFIRM else None)
            self._claim(study, entry.number, claim)
            return Job(study, entry, claim, config, self._rungs(study)[claim.rung], folder, claims, held)
        except BaseException:
            held.close()
            raise

    def _tell(self, study: str, entries: Sequence[Entry], *, over: bool = False) -> None:
        """Let Optuna's own states say what the facts say; `over` ends what nobody goes on with."""
        from optuna.trial import TrialState

        rungs = self._rungs(study)
        trials = self.storage.get_all_trials(self._id(study), deepcopy=False)
        for entry, trial in zip(entries, trials, strict=True):
            if trial.state.is_finished():
                continue
            if over and not entry.is_ended(rungs):
                reached = rungs[len(entry.values) - 1]
                text = f"{STOPPED} {reached} of {rungs[-1]} epochs: others were better there"
                self.storage.set_trial_user_attr(trial._trial_id, "reason", text)
                entry = replace(entry, reason=text)
            if len(entry.values) >= len(rungs):
                self.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [entry.values[-1]])
            elif entry.reason:
                self.storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)

    def _list_repeats(self) -> None:
        """The repeats of the best trials with other seeds, as trials of their own; those that are not listed yet."""
        listed = {(one.of, one.seed) for one in self.entries(CONFIRM)}
        for number, seed in [one for one in repeats(self.entries(), self.plan) if one not in listed]:
            parameters = dict(self.entries()[number].parameters)
            self._create(CONFIRM, {}, {"parameters": parameters, "of": number, "seed": seed}, Claim(0))


def repeats(entries: Sequence[Entry], plan: SweepPlan) -> list[tuple[int, int]]:
    """Trial and seed of each repeat: the configuration itself and the best trials that reached the end."""
    whole = [one.number for one in ranked(entries) if len(one.values) == len(plan.rungs) and one.number != BASELINE]
    numbers = [BASELINE, *whole[: plan.confirm]] if whole else []
    return [(number, seed) for seed in plan.repeat_seeds for number in numbers]


def _entry(trial: "FrozenTrial", rungs: Sequence[int]) -> Entry:
    facts = trial.user_attrs
    values = []
    for rung in rungs:
        if rung not in trial.intermediate_values:
            break
        values.append(float(trial.intermediate_values[rung]))
    claim = Claim(**facts["claim"]) if facts.get("claim") else None
    return Entry(
        trial.number, facts.get("parameters", {}), tuple(values), claim, str(facts.get("reason", "")),
        float(facts.get("seconds", 0.0)), int(facts.get("of", 0)), int(facts.get("seed", 0)),
    )  # fmt: skip
