"""Several processes that train one network together: who they are, what they tell each other, whose gradient counts.

Each rank takes its part of every batch. The objective runs over all parts (`losses.whole_batch`), so that every rank
sees one process's loss, and `DistributedDataParallel` gives every rank the gradient of it. What a rank cannot know by
itself - the time, a signal, a person's wish, a file - rank 0 is asked for (`World.from_first`) or all are
(`World.gather`): then all ranks take every decision alike, and none goes on alone. Outside of torchrun there is one
process (`ALONE`), for which all of this is nothing.
"""

import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from volumen.errors import UserError
from volumen.losses.whole_batch import shared_batch
from volumen.runtime import choose_device
from volumen.system.names import one_line
from volumen.system.stopping import InterruptedBySignal, StopWanted

TIMEOUT = timedelta(hours=1)
"""What one rank waits for the others at most: for an audit, the hashing of the data, a part of a validation. A rank
that ends is noticed at once, since its connections close; this is for machines that hang."""
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out", "timed out", "timeout",
         "remote process exited")  # fmt: skip
_KNOWN = (
    "`broadcast_buffers` is deprecated",  # its successor is not in every PyTorch yet
    "Grad strides do not match bucket view strides",  # axes of one channel have any stride
)
_FAILED = "volumen/failed"
T = TypeVar("T")


class RankLostError(RuntimeError):
    """Another process of the run has ended."""


@dataclass(frozen=True)
class World:
    """The processes of a run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the processes of this machine."""
    device: torch.device | None = None
    """Of this rank; None where there is one process, which chooses as ever."""
    backend: str = ""
    store: Any = field(default=None, repr=False, compare=False)

    @property
    def is_alone(self) -> bool:
        """Whether there is one process."""
        return self.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, shows and decides."""
        return self.rank == 0

    def device_of(self, requested: Literal["auto", "cpu", "cuda"]) -> torch.device:
        """This rank's device, or as `choose_device` where there is one process."""
        return choose_device(requested) if self.device is None else self.device

    def part_of(self, batch: int) -> int:
        """Patches of a batch that fall to each rank.

        Raises:
            UserError: The batch cannot be divided evenly.
        """
        if batch % self.size:
            fits = max(batch // self.size, 1) * self.size
            raise UserError(
                f"data.batch is {batch}, the patches of all {self.size} processes together, and cannot be divided "
                f"evenly among them: use a multiple such as -o data.batch={fits}, or another --nproc-per-node"
            )
        return batch // self.size

    def sum(self, *numbers: int) -> tuple[int, ...]:
        """Sums of whole numbers over all ranks."""
        return numbers if self.is_alone else tuple(map(int, self.add(torch.tensor(numbers)).tolist()))

    def add(self, vector: Tensor) -> Tensor:
        """Replace a vector, on the host or on the rank's device, by its sum over all ranks."""
        if not self.is_alone:
            dist.all_reduce(vector)
        return vector

    def most(self, number: int) -> int:
        """The largest of all ranks' numbers."""
        if self.is_alone:
            return number
        box = torch.tensor([number])
        dist.all_reduce(box, dist.ReduceOp.MAX)
        return int(box)

    def from_first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, on all ranks; an error of its making is raised on all."""
        if self.is_alone:
            return make()
        told: list[Any] = [_attempt(make) if self.is_first else None]
        dist.broadcast_object_list(told, src=0)
        first: T = _outcome(told)
        return first

    def gather(self, make: Callable[[], T]) -> list[T]:
        """What each rank makes, in their order, on all ranks; the error of one is raised on all."""
        if self.is_alone:
            return [make()]
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, _attempt(make))
        _outcome(told)
        return [value for _, value in told]

    def whole_batch(self) -> AbstractContextManager[None]:
        """A context in which this rank's part of the batch counts as what it is: objectives run over all parts."""
        return nullcontext() if self.is_alone else shared_batch(_total)

    def explained(self, error: BaseException) -> BaseException:
        """An error of this rank; where another rank has ended, what is known of that."""
        if self.is_alone or not isinstance(error, RuntimeError) or not any(sign in str(error) for sign in _LOST):
            return error
        said = ""
        with suppress(Exception):
            said = self.store.get(_FAILED).decode() if self.store.check([_FAILED]) else ""
        return RankLostError(
            f"another of the {self.size} processes ended{f': {said}' if said else ' or was killed'}; the last "
            "checkpoint stands, the same command with --resume goes on from it"
        )


ALONE = World()
"""One process."""


@contextmanager
def joined(requested: Literal["auto", "cpu", "cuda"], environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """The world that torchrun has put this process into; `ALONE` where it was not started by it.

    Args:
        requested: The configured device; on CUDA each rank of a machine has the card of its number.
        environment: `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT` as torchrun sets them.

    Raises:
        UserError: Not all of them are there, or more processes than cards.
    """
    size = _number(environment, "WORLD_SIZE", 1)
    if size < 2:
        yield ALONE
        return
    missing = [name for name in TORCHRUN if name not in environment]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} are not set: start several processes by "
            "torchrun --nproc-per-node N -m volumen train ..., or unset WORLD_SIZE"
        )
    rank, local_rank = _number(environment, "RANK", 0), _number(environment, "LOCAL_RANK", 0)
    device = choose_device(requested)
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} of this machine has no card of its own: PyTorch sees "
                f"{torch.cuda.device_count()}; use --nproc-per-node {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, *_ = next(iter(rendezvous("env://", rank, size, timeout=TIMEOUT)))
    dist.init_process_group(
        backend, store=PrefixStore("volumen/group", store), rank=rank, world_size=size, timeout=TIMEOUT
    )
    world = World(rank, size, local_rank, device, backend, store)
    try:
        yield world
        world.sum(0)  # nobody leaves before all are here: rank 0 may hold what connects them
        dist.destroy_process_group()
    except BaseException as error:
        with suppress(Exception):
            if not isinstance(error, RankLostError) and not store.check([_FAILED]):
                store.set(_FAILED, one_line(f"rank {rank}: {error or type(error).__name__}", 400))
        raise


def is_listener(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun has started this process as one that has nothing to say, since rank 0 says it."""
    return environment.get("WORLD_SIZE", "1") != "1" and environment.get("RANK", "0") != "0"


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name, str(otherwise))
    if not text.isdecimal():
        raise UserError(f"the environment's {name} is {text!r:.40}, expected a whole number: leave it to torchrun")
    return int(text)


def _attempt(make: Callable[[], Any]) -> tuple[BaseException | None, Any]:
    """What was made, or why it was not, ready to be sent."""
    try:
        made = None, make()
        pickle.dumps(made[1])
        return made
    except (Exception, InterruptedBySignal) as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an error that cannot travel as itself
            return RuntimeError(f"{type(error).__name__}: {error}"), None
        return error, None


def _outcome(told: list[tuple[BaseException | None, Any]]) -> Any:
    """The first value, unless there is an error: a fault goes before a wish to stop."""
    errors = [error for error, _ in told if error is not None]
    for error in sorted(errors, key=lambda one: isinstance(one, StopWanted)):
        raise error
    return told[0][1]


class _Total(torch.autograd.Function):
    """A vector's sum over all ranks. Each rank's objective is the same function of it, and the gradients are averaged:
    the gradient of the sum is the sum of all ranks' gradients, and their average is one process's gradient."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor) -> Tensor:
        total = vector.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _total(vector: Tensor) -> Tensor:
    total: Tensor = _Total.apply(vector)  # type: ignore[no-untyped-call]
    return total


class Replica:
    """A network's forward pass after which `backward` averages the gradients over all ranks.

    The network stays as it is; it is wrapped anew where other parameters are trained than before.
    """

    def __init__(self, model: nn.Module, world: World, *, leaves_out: bool) -> None:
        """`leaves_out`: whether a step may use a part of the parameters only, as with outputs that no term sees."""
        self._model, self._world, self._leaves_out = model, world, leaves_out
        self._wrapped: nn.Module | None = None
        self._trained: tuple[bool, ...] = ()

    def __call__(self, image: Tensor) -> Any:
        """Logits of this rank's part of the batch."""
        trained = tuple(parameter.requires_grad for parameter in self._model.parameters())
        if self._wrapped is None or trained != self._trained:
            self._trained, self._wrapped = trained, self._wrap()
            if self._world.size > 2 and not self._leaves_out:
                self._settle(self._wrapped, image)
        return self._wrapped(image)

    def _settle(self, wrapped: nn.Module, image: Tensor) -> None:
        """Go back and forth once for nothing, since the gradients' buckets are laid anew after the first time: three or
        more summands would be added in another order there, and a resumed run would differ in its last bits."""
        logits = wrapped(torch.zeros_like(image))
        outputs = logits if isinstance(logits, list | tuple) else [logits]
        torch.autograd.backward([output.sum() for output in outputs])
        for parameter in self._model.parameters():
            parameter.grad = None

    def _wrap(self) -> nn.Module:
        device = self._world.device
        on_cuda = device is not None and device.type == "cuda"
        for known in _KNOWN:
            warnings.filterwarnings("ignore", known)
        return nn.parallel.DistributedDataParallel(
            self._model,
            device_ids=[device] if on_cuda else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            find_unused_parameters=self._leaves_out,
        )


def forward_of(model: nn.Module, world: World, *, leaves_out: bool) -> Callable[[Tensor], Any]:
    """The forward pass of training: the network itself, or over several ranks its `Replica`.

    Raises:
        UserError: The network normalises by statistics of the batch, of which each rank sees a part only.
    """
    if world.is_alone:
        return model
    for name, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"the network's {name} normalises by statistics of the batch, which several processes do not share: "
                "use instance or group norm (MONAI: model.arguments {norm: instance}), or one process"
            )
    return Replica(model, world, leaves_out=leaves_out)
