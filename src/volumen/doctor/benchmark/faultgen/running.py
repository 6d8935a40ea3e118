"""The bench as a whole: draws are audited, then qualified, in their order, until the time is over; nothing twice."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volumen.doctor.benchmark.bench import run_missing
from volumen.doctor.benchmark.faultgen.auditing import Said, audit_draw, kept
from volumen.doctor.benchmark.faultgen.bundle import Bundle
from volumen.doctor.benchmark.faultgen.draws import KINDS, Draw
from volumen.doctor.benchmark.faultgen.harm import Harm, harm_of, known_dice, train_dice
from volumen.system.output import Progress, unheard


@dataclass(frozen=True)
class Seen:
    """A draw, what was said of it, and what it costs."""

    draw: Draw
    said: Said
    harm: Harm


def run_audit_bench(
    out: Path,
    draws: Sequence[Draw],
    *,
    sources: tuple[Path, ...] = (),
    full: bool = False,
    seconds: float = float("inf"),
    jobs: int = 1,
    progress: Progress = unheard,
) -> tuple[list[Seen], dict[str, str]]:
    """Audit draws, then train for those whose harm only a training shows; what is there is not made again.

    Args:
        out: Folder of the bench, in which everything is kept.
        draws: In their order.
        sources: Data sets in the competition's layout, for crops.
        full: The audit's checks that take minutes, too.
        seconds: After which nothing new is begun.
        jobs: Audits or trainings at a time, of one thread each.
        progress: Told the name of a draw that is done, how many are, and of how many.

    Returns:
        Draws that have been audited, and why others could not be.

    Raises:
        UserError: The folder cannot be written to, another process works in it, or nothing could be made at all.
    """
    until = time.time() + seconds
    said = {one.name: found for one in draws if (found := kept(out, one, full=full)) is not None}
    failures: dict[str, str] = {}
    if seconds > 0:
        how = {"seconds": seconds, "jobs": jobs, "progress": progress}
        failures = run_missing(out, draws, said, lambda draw: (audit_draw, (draw, out, sources, full)), **how)  # type: ignore[arg-type]
        trained = _trained(draws)
        known = {one.name: harm for one in trained if (harm := harms(out, one, sources)).verdict != "open"}
        how["seconds"] = until - time.time()
        failures |= run_missing(out, trained, known, lambda draw: (qualify, (draw, out, sources, until)), **how)  # type: ignore[arg-type]
    return [Seen(one, said[one.name], harms(out, one, sources)) for one in draws if one.name in said], failures


def harms(out: Path, draw: Draw, sources: tuple[Path, ...] = ()) -> Harm:
    """The harm of a draw by what is known."""
    return harm_of(draw, lambda bundle, seed: known_dice(out, bundle, seed), sources, out)


def qualify(draw: Draw, out: Path, sources: tuple[Path, ...], until: float) -> Harm:
    """Train what tells the harm of a draw; no run is begun later than `until`, in seconds of the epoch."""

    def ask(bundle: Bundle, seed: int) -> float | None:
        known = known_dice(out, bundle, seed)
        return known if known is not None or time.time() > until else train_dice(out, bundle, seed)

    return harm_of(draw, ask, sources, out)


def _trained(draws: Sequence[Draw]) -> list[Draw]:
    """Those that need trainings; what is reported comes first."""
    mine = [one for one in draws if one.group == "fault" and KINDS[one.kind].harm == "training"]
    return sorted(mine, key=lambda one: one.half != "report")
