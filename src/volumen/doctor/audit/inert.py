"""P6: settings that change nothing, found by changing them.

Each value that a file or the command line sets is varied, and the rehearsals (`doctor.rehearsal`) of the run before and
after are compared. What changes no part of them cannot change the run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from volumen.config.describe import value_text
from volumen.config.dump import canonical, flat_values
from volumen.config.problems import DEFAULT
from volumen.config.schema import Config
from volumen.doctor.audit.context import Context
from volumen.doctor.audit.parts import Parts
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.rehearsal import Rehearsals
from volumen.doctor.variations import default_of, variations
from volumen.system.output import Progress, counted, unheard

EXCLUDED: dict[str, str] = {
    "name": "names the run",
    "model.initial_weights": "a network of the full size has them alone",
    "experiment.*": "says what the run is for",
    "loss.curriculum.*.name": "names a phase",
    "data.dataset": "a place: another data set is another run",
    "data.folds": "a place",
    "data.fold": "chooses the cases held out; every variation is rehearsed on the same ones",
    "data.workers": "by design without effect on any sample",
    "device": "a place to compute",
    "inference.engine": "a way to compute the same",
    "inference.empty": "of images that were never prepared; prepared ones have what `prepare` found",
    "model.out_channels": "it has one value only",
    "training.intervention.kind": "it has one value only",
}
"""Keys that are not varied, as patterns, and why."""
ENOUGH = 2
"""Values that the package's own parts answer to and the run's do not, before a setting is called ignored."""


class Verdict(StrEnum):
    """What became of a setting."""

    live = "live"
    """Another value changes the run."""
    ignored = "ignored"
    """Another value changes nothing here, and would with the package's own parts."""
    inert = "inert"
    """No other value that was tried changes anything."""
    dead = "dead"
    """It can never act, for a reason that is known."""
    excluded = "excluded"
    """It was not varied."""


@dataclass(frozen=True)
class Trial:
    """One setting, varied."""

    key: str
    value: Any
    origin: str
    read: bool
    """Whether the rehearsal read it."""
    is_default: bool
    """The value is the schema's own default, written out."""
    verdict: Verdict
    tried: tuple[Any, ...] = ()
    """Other values, up to the first that changed something."""
    changes: tuple[str, ...] = ()
    """Parts of the run that changed; of an ignored setting, those that would with the package's own parts."""
    reason: str = ""
    """Why it was not varied, or can never act."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields: the stable form of `volumen audit liveness --json`."""
        return {**asdict(self), "verdict": str(self.verdict)}


@dataclass(frozen=True)
class Examination:
    """Every setting of a run, varied."""

    trials: tuple[Trial, ...]
    """None at all where the rehearsal itself fails."""
    parts: tuple[str, ...]
    """The parts of the run that were compared."""
    defaults: int = 0
    """Values that no file and no override sets; they were not varied."""
    failures: dict[str, str] = field(default_factory=dict)
    """Stages of the rehearsal that ended in an error."""


def settings_of(context: Context) -> tuple[str, ...]:
    """Keys of the values that a file or an override sets."""
    origins = context.origins
    return tuple(key for key in flat_values(context.config) if origins.get(key, DEFAULT) != DEFAULT)


def examine(
    context: Context,
    dead: Callable[[str], str | None] = lambda key: None,
    keys: Sequence[str] | None = None,
    progress: Progress = unheard,
) -> Examination:
    """Vary the settings of a run.

    Args:
        context: The run.
        dead: The reason why a key can never act, where one is known.
        keys: Dotted keys; by default those that a file or an override sets.
        progress: Told the next key, its number and how many there are.
    """
    bench = _Bench(context)
    chosen = settings_of(context) if keys is None else tuple(keys)
    found = []
    for number, key in enumerate(() if bench.base.failures else chosen):
        progress(key, number, len(chosen))
        found.append(bench.trial(key, dead(key)))
    return Examination(
        tuple(found), tuple(bench.base.parts), len(bench.values) - len(chosen), dict(bench.base.failures)
    )


class _Bench:
    """The rehearsals of a run, and those with the package's own parts where the run has others."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.values = flat_values(context.config)
        self._run = Rehearsals(context, context.parts)
        self.base = self._run.fingerprint(context.config)
        self._reference = None if context.parts == Parts() else Rehearsals(context, Parts())

    def trial(self, key: str, dead: str | None) -> Trial:
        config, value, read = self._context.config, self.values[key], self.base.read(key)
        is_default = canonical(value) == canonical(default_of(config, key))
        about = partial(Trial, key, value, self._context.origins.get(key, DEFAULT), read, is_default)
        excluded = next((reason for pattern, reason in EXCLUDED.items() if fnmatchcase(key, pattern)), None)
        if excluded is not None:
            return about(Verdict.excluded, reason=excluded)
        if dead is not None:
            return about(Verdict.dead, reason=dead)
        tried: list[Any] = []
        missed: list[tuple[str, ...]] = []
        for other, varied in variations(config, key):
            tried.append(other)
            # That nothing reads it is a strong claim: the first other value is rehearsed with nothing remembered.
            changes = self.base.changed(self._run.fingerprint(varied, anew=not read and len(tried) == 1))
            if changes:
                return about(Verdict.live, tuple(tried), changes)
            missed += self._missed(varied)
            if len(missed) == ENOUGH:
                return about(Verdict.ignored, tuple(tried), missed[0])
        if not tried:
            return about(Verdict.excluded, reason="no other valid value is known")
        return about(Verdict.ignored, tuple(tried), missed[0]) if missed else about(Verdict.inert, tuple(tried))

    def _missed(self, varied: Config) -> list[tuple[str, ...]]:
        """What a variation would change with the package's own parts: nothing, or one list of parts."""
        if self._reference is None:
            return []
        changes = self._reference.fingerprint(self._context.config).changed(self._reference.fingerprint(varied))
        return [changes] if changes else []


def findings_of(context: Context, examination: Examination) -> Iterator[Finding]:
    """What an examination has to say: a rehearsal that fails, settings that are ignored, settings without effect.

    The schema's own default, written out, is not called without effect: it asks for nothing.
    """
    if examination.failures:
        yield Finding(
            code="P6",
            severity=Severity.stop,
            title="the rehearsal of the run fails",
            evidence="; ".join(f"{stage}: {message}" for stage, message in examination.failures.items()),
            causes=("the configuration asks for what this data set, this machine or these parts cannot do",),
            remedies=("mend what the message names",),
            where=context.config.name,
        )
    compared = f"{counted(len(examination.parts), 'part')} of a rehearsal compared"
    for trial in examination.trials:
        if trial.verdict == Verdict.ignored:
            yield _ignored(context, trial, compared)
        elif trial.verdict == Verdict.inert and not trial.is_default:
            yield _inert(context, trial, compared)


def _ignored(context: Context, trial: Trial, compared: str) -> Finding:
    return Finding(
        code="P6",
        severity=Severity.stop,
        title=f"the run ignores {trial.key}",
        evidence=(
            f"{_experiment(trial)} ({compared}); with the package's own parts it would change "
            f"{', '.join(trial.changes)}. {_reading(trial)}"
        ),
        causes=("the code that builds objective, state or tiles has a value of its own",),
        remedies=("hand the configuration's value on", "take the setting out of the file, so that it promises nothing"),
        where=context.where(trial.key),
    )


def _inert(context: Context, trial: Trial, compared: str) -> Finding:
    return Finding(
        code="P6",
        severity=Severity.warn,
        title=f"{trial.key} changes nothing" if trial.read else f"{trial.key} is never read",
        evidence=f"{_experiment(trial)} ({compared}). {_reading(trial)}",
        causes=(
            "a switch, a weight or a probability of 0 beside it keeps it out of the run",
            "the volumes, or the length of the run, leave it no room",
        ),
        remedies=("switch on what it belongs to", "leave it out"),
        where=context.where(trial.key),
    )


def _experiment(trial: Trial) -> str:
    tried = ", ".join(map(value_text, trial.tried))
    return f"{value_text(trial.value)} was replaced by {tried}, and nothing changed"


def _reading(trial: Trial) -> str:
    return "It is read, and has no effect" if trial.read else "It is never read"
