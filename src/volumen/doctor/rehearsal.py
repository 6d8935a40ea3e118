"""A miniature of a run, through the package's own code, and its fingerprint.

Two configurations whose rehearsals agree to the last bit train, validate and predict alike: what they differ in changes
nothing. A rehearsal draws patches, does two steps, follows rate, noise, averages and verdicts from the first epoch to
the last, predicts a block and cleans a mask; every part of that has a hash.

Dozens of variations are rehearsed for one configuration, so a stage is played again only where a value that it read has
changed. Which values it read is recorded (`reads`), never assumed.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from volumen.config.schema import Config
from volumen.data.dataset import surface_share
from volumen.doctor import stages
from volumen.doctor.miniature import miniature, telling_samples, without_replaced
from volumen.doctor.reads import Reads, recorded
from volumen.training.objective import precomputed_targets

if TYPE_CHECKING:  # the audit's checks call this module
    from volumen.doctor.audit.context import Context
    from volumen.doctor.audit.parts import Parts

ABSENT = object()


@dataclass(frozen=True)
class Fingerprint:
    """What a rehearsal did."""

    parts: Mapping[str, str]
    """A hash by part of the run."""
    reads: tuple[Reads, ...]
    """What each stage read."""
    failures: Mapping[str, str]
    """Stages that ended in an error, and the error."""

    def read(self, key: str) -> bool:
        """Whether any stage read the value of a key."""
        return any(reads.has(key) for reads in self.reads)

    def changed(self, other: "Fingerprint") -> tuple[str, ...]:
        """The parts in which two rehearsals differ."""
        names = dict.fromkeys((*self.parts, *other.parts))
        return tuple(name for name in names if self.parts.get(name) != other.parts.get(name))


@dataclass(frozen=True)
class _Played:
    """One performance of a stage."""

    seen: Mapping[str, Any]
    """Value of every key that was read; the class where a section was looked at."""
    reads: Reads
    result: Mapping[str, Any]
    """Plain values by part; none where the stage failed."""
    parts: Mapping[str, str]
    """Their hashes; of a stage that failed, that of the error, under the stage's name."""
    failure: str | None

    def holds_for(self, config: Config) -> bool:
        return all(_seen_at(config, key) == value for key, value in self.seen.items())


@dataclass
class Rehearsals:
    """Rehearsals of one run and of variations of it.

    Args:
        context: The run; its data set, label patches and fold are the same for all variations.
        parts: What the run is built of.
    """

    context: "Context"
    parts: "Parts"
    _played: dict[tuple[str, Any], list[_Played]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        small = miniature(self._settled(self.context.config))
        augmentation = small.data.augmentation
        first = stages.STEPS * stages.batch_of(small)
        self._samples = telling_samples(augmentation, small.data.patch, small.seed, first)
        self._prior = surface_share(self.context.dataset, self.context.training)

    def fingerprint(self, config: Config, *, anew: bool = False) -> Fingerprint:
        """Rehearse a configuration of this run's data set and fold.

        Args:
            config: The run's, or a variation of it.
            anew: Play every stage, whatever is remembered.
        """
        full = self._settled(config)
        small = miniature(full)
        played: dict[str, _Played] = {}
        noted: list[Reads] = []

        def play(name: str, on: Config, make: Callable[[Config], dict[str, Any]], given: Any = None) -> _Played:
            known = [] if anew else self._played.setdefault((name, given), [])
            played[name] = _play(name, on, make, known)
            noted.append(without_replaced(played[name].reads) if on is small else played[name].reads)
            return played[name]

        with stages.alone():
            context, parts = self.context, self.parts
            drawn = play("draws", full, lambda c: stages.draws(c, context))
            play("model", full, lambda c: stages.shapes(c, parts, self._prior))
            play("objective", full, lambda c: stages.objective(c, parts, context.label_patches))
            play("tiles", full, lambda c: stages.tiles(c, parts, context.dataset))
            play("mask", full, stages.mask)
            play("validation", full, lambda c: stages.validation(c, context))
            targets = precomputed_targets(small.loss)
            made = play("patches", small, lambda c: stages.patches(c, context, targets, self._samples), targets)
            run = stages.Run(parts, drawn.result.get("steps an epoch", 1), self._prior)
            play("course", small, lambda c: stages.course(c, run), run.steps_per_epoch)
            play("prediction", small, lambda c: stages.prediction(c, context))
            if made.failure is None:
                samples, given = made.result["patches"], (run.steps_per_epoch, made.parts["patches"])
                play("steps", small, lambda c: stages.steps(c, run, samples), given)
        shown = {part: shown for stage in played.values() for part, shown in stage.parts.items()}
        failures = {name: stage.failure for name, stage in played.items() if stage.failure is not None}
        return Fingerprint(shown, tuple(noted), failures)

    def _settled(self, config: Config) -> Config:
        """The configuration with `rotations: auto` decided, which takes a look at the labels, once."""
        if config.data.augmentation.rotations != "auto":
            return config
        chosen = self._rotations
        augmentation = config.data.augmentation.model_copy(update={"rotations": chosen})
        return config.model_copy(update={"data": config.data.model_copy(update={"augmentation": augmentation})})

    @property
    def _rotations(self) -> str:
        from volumen.data.orientation import rotations_for

        patches = self.context.patches
        if self.context.config.data.augmentation.rotations == "auto":
            return patches.augmentation.rotations
        return rotations_for(patches.prepared, patches.case_ids)[0]


def _play(name: str, config: Config, make: Callable[[Config], dict[str, Any]], known: list[_Played]) -> _Played:
    """Play a stage, or find an earlier performance that saw the same values."""
    for earlier in known:
        if earlier.holds_for(config):
            return earlier
    watched, reads = recorded(config)
    result: dict[str, Any] = {}
    failure = None
    try:
        result = make(watched)
    except Exception as error:  # whatever ends the run is what the configuration leads to
        failure = f"{type(error).__name__}: {error}"
    parts = {part: digest(value) for part, value in result.items()} if failure is None else {name: digest(failure)}
    seen = {key: _seen_at(config, key) for key in reads.keys | reads.sections}
    known.append(_Played(seen, reads, result, parts, failure))
    return known[-1]


def _seen_at(config: BaseModel, key: str) -> Any:
    """The value at a dotted key, the class where a section stands there, and the classes of a tuple of sections."""
    value: Any = config
    for name in key.split("."):
        if isinstance(value, tuple):
            value = value[int(name)] if int(name) < len(value) else ABSENT
        else:
            value = getattr(value, name, ABSENT)
    if isinstance(value, BaseModel):
        return type(value)
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return tuple(type(item) for item in value)
    return value


def digest(value: Any) -> str:
    """A hash of nested plain values, arrays and tensors, by every bit of them."""
    state = hashlib.blake2b(digest_size=16)
    _feed(value, state.update)
    return state.hexdigest()


def _feed(value: Any, take: Callable[[bytes], None]) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        array: NDArray[Any] = np.ascontiguousarray(value)
        take(f"{array.dtype}{array.shape}".encode())
        take(array.tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        _feed({one.name: getattr(value, one.name) for one in fields(value)}, take)
    elif isinstance(value, Mapping):
        take(b"{")
        for key, item in value.items():
            take(repr(key).encode())
            _feed(item, take)
        take(b"}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        take(b"[")
        for item in value:
            _feed(item, take)
        take(b"]")
    else:
        take(f"{value!r};".encode())
