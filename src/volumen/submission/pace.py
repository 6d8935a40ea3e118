"""Will the time do? A forecast from the voxels that are done, and an end in good order before the time is gone."""

import time
from collections.abc import Callable, Mapping, Sequence

from volumen.inference.ensemble import Ensemble
from volumen.inference.predictor import Predictor
from volumen.inference.tiles import plan_tiles
from volumen.inference.views import views
from volumen.system.output import Warn, counted, duration, unheard

SAFETY = 0.01  # share of the budget that is never planned with
TELLING = 0.1  # share of a volume below which its pace tells nothing: the first tiles include warming up
clock: Callable[[], float] = time.monotonic


class OutOfTimeError(Exception):
    """The time budget is spent; what is done is kept."""


class Pace:
    """Watches a prediction of many volumes against a time budget; what an earlier call predicted costs nothing.

    Args:
        voxels: Voxels of every volume by name, in the order in which they are predicted.
        budget_seconds: From `started` on; None is no budget, and nothing is ever said.
        started: When the command began, by `clock`.
        reserve_seconds: Kept back for what follows the prediction.
        faster: What would make it faster, a sentence each.
        say: Told once when the forecast exceeds the budget.
    """

    def __init__(
        self,
        voxels: Mapping[str, int],
        budget_seconds: float | None,
        *,
        started: float,
        reserve_seconds: float = 0.0,
        faster: Sequence[str] = (),
        say: Warn = unheard,
    ) -> None:
        self._left, self._total = dict(voxels), len(voxels)
        self._budget, self._started = budget_seconds, started
        self._reserve = reserve_seconds + SAFETY * (budget_seconds or 0.0)
        self._faster, self._say = faster, say
        self._begun = self._seen = clock()
        self._warned, self._longest_tile, self._in_flight = False, 0.0, 0.0
        self._spent, self._done_voxels = 0.0, 0

    def tile(self, done: int, of: int) -> None:
        """Between two tiles of the volume in flight, of which `done` of `of` are done.

        Raises:
            OutOfTimeError: The budget would be gone after another one.
        """
        now = clock()
        self._longest_tile = max(self._longest_tile, now - self._seen)
        self._seen, self._in_flight = now, done / of
        ahead = self._longest_tile if done < of else 0.0
        if self._budget is not None and now - self._started + ahead + self._reserve >= self._budget:
            raise OutOfTimeError(self._ended(now))

    def finished(self, name: str, computed: bool) -> None:
        """A volume's files are whole.

        Args:
            name: Which.
            computed: Whether this call predicted it, or an earlier one had.

        Raises:
            OutOfTimeError: The next volume would not be ready in time.
        """
        now = clock()
        voxels = self._left.pop(name)
        if computed:
            self._spent += now - self._begun
            self._done_voxels += voxels
        self._begun, self._seen, self._in_flight = now, now, 0.0
        if self._budget is None or not self._left or not self._done_voxels:
            return
        elapsed, rate = now - self._started, self._spent / self._done_voxels
        whole = elapsed + sum(self._left.values()) * rate + self._reserve
        if whole > self._budget and not self._warned:
            self._warned = True
            self._say(
                f"the time budget of {duration(self._budget)} will not do: at {_rate_text(rate)} the whole takes about "
                f"{duration(whole)}. It goes on as long as a volume fits, and what is done is kept{self._advice()}"
            )
        if elapsed + next(iter(self._left.values())) * rate + self._reserve > self._budget:
            raise OutOfTimeError(self._ended(now))

    def _rate(self, now: float) -> float | None:
        """Seconds per voxel: of the volumes that are done, else of the one in flight; None while too little is done."""
        if self._done_voxels:
            return self._spent / self._done_voxels
        if self._in_flight < TELLING or not self._left:
            return None
        return (now - self._begun) / (self._in_flight * next(iter(self._left.values())))

    def _ended(self, now: float) -> str:
        rate, left = self._rate(now), sum(self._left.values())
        rest = "how long the rest takes is not known yet"
        if rate is not None:
            rest = f"the rest needs about {duration(left * rate)} at {_rate_text(rate)}"
        spent = duration(now - self._started)
        return (
            f"the time budget of {duration(self._budget or 0.0)} does not hold the next volume; {spent} are spent, "
            f"{self._total - len(self._left)} of {counted(self._total, 'volume is', 'volumes are')} predicted, "
            f"{rest}{self._advice()}"
        )

    def _advice(self) -> str:
        return f". Faster: {'; '.join(self._faster)}" if self._faster else ""


def _rate_text(rate: float) -> str:
    return f"{rate * 1e6:.3g} s per million voxels"


def ways_to_be_faster(predictor: Predictor, shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """What would make a predictor faster on volumes of these shapes (z, y, x), and how much."""
    ways = []
    if predictor.mirror or predictor.rotate:
        options = " ".join(
            option for option, on in (("--no-mirror", predictor.mirror), ("--no-rotate", predictor.rotate)) if on
        )
        ways.append(f"{options}, {len(views(mirror=predictor.mirror, rotate=predictor.rotate))} times as fast")
    now = sum(len(predictor.plan(shape)) for shape in shapes)
    for overlap in (0.25, 0.0):
        if overlap >= predictor.overlap:
            continue
        then = sum(len(plan_tiles((shape[0], shape[1], shape[2]), predictor.tile, overlap)) for shape in shapes)
        if then < now:
            ways.append(
                f"--overlap {overlap:g}, {now / then:.1f} times as fast ({counted(then, 'tile')} instead of {now})"
            )
    if isinstance(predictor.model, Ensemble) and len(predictor.model.members) > 1:
        ways.append(f"one network of the {len(predictor.model.members)}, as many times as fast")
    return tuple(ways)
