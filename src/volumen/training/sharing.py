"""What several ranks share of one run: its folder and checkpoints, a wish to stop, the cases of a validation.

Rank 0 alone writes; what it reads, all ranks are given. Every call here is made by all ranks alike.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from volumen.config.optimisation import Tournament
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.runs.checkpoints import BEST, CheckpointStore, Manifest
from volumen.runs.folder import RunFolder
from volumen.system.output import Warn, unheard
from volumen.system.stopping import SIGNALS, StopRequest
from volumen.training.distributed import World

T = TypeVar("T")


def shared_folder(world: World, path: Path, make: Callable[[], RunFolder]) -> RunFolder:
    """The folder that rank 0 makes or opens, on every rank; the plain one where there is one process."""
    if world.is_alone:
        return make()
    made: list[RunFolder] = []

    def owner() -> str:
        made.append(make())
        return made[0].owner

    name = world.from_first(owner)
    return SharedFolder(path, name, world, made[0] if made else None)


class SharedFolder(RunFolder):
    """A run's folder as one of several ranks sees it."""

    def __init__(self, path: Path, owner: str, world: World, own: RunFolder | None) -> None:
        self.path, self.owner, self._world = path, owner, world
        self._own: Any = own
        self.checkpoints = SharedStore(world, CheckpointStore(path / "checkpoints", owner))

    def write_config(self, config: Config) -> None:
        """As `RunFolder` has it, like all below; on rank 0 only."""
        self._world.from_first(lambda: self._own and self._own.write_config(config))

    def replace_config(self, config: Config) -> None:
        """On rank 0 only."""
        self._world.from_first(lambda: self._own and self._own.replace_config(config))

    def take_newest(self, warn: Warn) -> dict[str, Any]:
        """What rank 0 reads, on every rank."""
        return self._world.from_first(lambda: self._own.take_newest(warn) if self._own else {})

    def metric(self, record: dict[str, Any]) -> None:
        """On rank 0 only."""
        if self._own:
            self._own.metric(record)

    def event(self, step: int, epoch: int, event: dict[str, Any]) -> None:
        """On rank 0 only."""
        if self._own:
            self._own.event(step, epoch, event)

    def status(self, **values: Any) -> None:
        """On rank 0 only."""
        if self._own:
            self._own.status(**values)

    def reserve(self) -> None:
        """On rank 0 only."""
        if self._own:
            self._own.reserve()

    def release(self) -> None:
        """On rank 0 only."""
        if self._own:
            self._own.release()


class SharedStore(CheckpointStore):
    """A run's checkpoints as one of several ranks sees them: rank 0 reads and writes, and the others wait for it."""

    def __init__(self, world: World, own: CheckpointStore) -> None:
        super().__init__(own.folder, own.owner)
        self._world, self.own = world, own

    def save(self, state: dict[str, Any], *, step: int, epoch: int, best: bool, best_loss: bool = False) -> Path:
        """As `CheckpointStore` has it, like all below."""
        return self._world.from_first(
            lambda: self.own.save(state, step=step, epoch=epoch, best=best, best_loss=best_loss)
        )

    def load_latest(self, warn: Warn) -> dict[str, Any]:
        """What rank 0 reads."""
        return self._world.from_first(lambda: self.own.load_latest(warn))

    def load_best(self, warn: Warn, name: str = BEST) -> dict[str, Any]:
        """What rank 0 reads."""
        return self._world.from_first(lambda: self.own.load_best(warn, name))

    def is_empty(self) -> bool:
        """What rank 0 sees."""
        return self._world.from_first(self.own.is_empty)

    def manifest(self, warn: Warn = unheard) -> Manifest:
        """What rank 0 sees."""
        return self._world.from_first(lambda: self.own.manifest(warn))

    def distrust(self) -> tuple[str, ...]:
        """By rank 0, and nobody waits: a rank that fails does so alone."""
        return self.own.distrust() if self._world.is_first else ()


def seen_here(store: CheckpointStore) -> CheckpointStore:
    """A run's checkpoints as this process alone sees them, whatever became of the other ranks."""
    return store.own if isinstance(store, SharedStore) else store


class SharedStop:
    """A wish to stop that reached any rank, as all ranks hear of it at once.

    Both properties ask the other ranks: they are looked at by all, at the same places.
    """

    def __init__(self, own: StopRequest, world: World) -> None:
        self._own, self._world = own, world

    @property
    def requested(self) -> bool:
        """Whether a rank was asked to stop."""
        names = [signal.name for signal in SIGNALS]
        own = names.index(self._own.name) + 1 if self._own.name in names else len(names) + 1
        most = self._world.most(own if self._own.requested else 0)
        if most and not self._own.requested:  # so that this rank's long work is left, too
            self._own.requested, self._own.name = True, (*names, "another process")[most - 1]
        return most > 0

    @property
    def name(self) -> str:
        """The signal."""
        return self._own.name if self.requested else ""


def shared_stop(own: StopRequest, world: World) -> StopRequest | SharedStop:
    """A process's own wish to stop, or where there are several ranks that of all."""
    return own if world.is_alone else SharedStop(own, world)


def refuse_unshared(config: Config, world: World) -> None:
    """Refuse what several ranks cannot do.

    Raises:
        UserError: An indivisible batch, a policy of tournaments, whose branches are one process's, or the compiler.
    """
    world.part_of(config.data.batch)
    if world.is_alone:
        return
    if config.training.compile == "on":
        raise UserError(
            f"training.compile: on compiles the steps of one process, and here are {world.size}: set it to off "
            "(-o training.compile=off), or train in one process"
        )
    if isinstance(config.training.intervention, Tournament):
        raise UserError(
            f"training.intervention: tournament tries remedies in one process, and here are {world.size}: set "
            "training.intervention to plan or null (-o training.intervention=null), or train in one process"
        )


def my_cases(cases: Sequence[str], voxels: Mapping[str, Sequence[int]], world: World) -> list[int]:
    """Numbers of the cases that fall to this rank: the largest first, each to whom has least so far, ties in order.

    Args:
        cases: All of them.
        voxels: Shape of each.
        world: The ranks.
    """
    if world.is_alone:
        return list(range(len(cases)))
    loads, shares = [0] * world.size, [list[int]() for _ in range(world.size)]
    for number in sorted(range(len(cases)), key=lambda one: (-prod(voxels[cases[one]]), one)):
        least = loads.index(min(loads))
        loads[least] += prod(voxels[cases[number]])
        shares[least].append(number)
    return sorted(shares[world.rank])
