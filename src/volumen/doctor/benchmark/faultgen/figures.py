"""Recall and false alarms of the audit, from what it said of draws and what these cost."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from volumen.doctor.benchmark.faultgen.auditing import REFUSED
from volumen.doctor.benchmark.faultgen.draws import KINDS
from volumen.doctor.benchmark.faultgen.running import Seen
from volumen.doctor.benchmark.qualifying import clopper_pearson

QUARTERS = 4


@dataclass(frozen=True)
class Share:
    """A count of some, with its exact 95 % interval."""

    name: str
    hits: int
    of: int
    named: int = 0
    """Of the hits, those whose first finding is of a right check."""

    @property
    def share(self) -> float:
        """NaN of nothing."""
        return self.hits / self.of if self.of else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """By Clopper and Pearson (1934)."""
        return clopper_pearson(self.hits, self.of)


@dataclass(frozen=True)
class Figures:
    """Of one half, or both."""

    half: str
    recall: tuple[Share, ...]
    """All harmful draws, then by part."""
    kinds: tuple[Share, ...]
    severities: tuple[Share, ...]
    """From mild to strong."""
    unqualified: tuple[Share, ...]
    """Over all faults, harmful or not, as far as they were audited."""
    false_stops: Share
    false_warnings: Share
    """On healthy set-ups, neutral changes and faults that do no harm; a stop counts as a warning too."""
    healthy: Share
    """Warnings on healthy set-ups and neutral changes alone."""
    missed: tuple[Seen, ...]
    alarms: tuple[Seen, ...]
    opened: int
    """Faults whose harm is not known yet."""
    seconds: float
    """Median of an audit."""


def news(seen: Seen) -> list[dict[str, str]]:
    """Findings that are not said of the healthy twin as well, in their order."""
    known = {(one["code"], one["title"]) for one in seen.said.twin}
    return [one for one in seen.said.findings if (one["code"], one["title"]) not in known]


def is_named(seen: Seen) -> bool:
    """Whether the first finding of all is of a right check."""
    first = seen.said.findings[0]["code"] if seen.said.findings else ""
    return bool(news(seen)) and first in (REFUSED, *KINDS[seen.draw.kind].codes)


def figures_of(seen: Sequence[Seen], half: str = "both") -> Figures:
    """The figures of draws."""
    faults = [one for one in seen if one.draw.group == "fault"]
    harmful = [one for one in faults if one.harm.verdict == "harmful"]
    sound = [one for one in seen if one.draw.group != "fault"]
    harmless = [*sound, *(one for one in faults if one.harm.verdict == "neutral")]
    parts = sorted({one.draw.part for one in faults})
    quarters = [[one for one in harmful if int(one.draw.severity * QUARTERS) == place] for place in range(QUARTERS)]
    return Figures(
        half=half,
        recall=(_share("all", harmful), *(_share(part, _of(harmful, part)) for part in parts)),
        kinds=tuple(
            _share(kind, [one for one in harmful if one.draw.kind == kind])
            for kind in sorted({one.draw.kind for one in harmful})
        ),
        severities=tuple(
            _share(f"{place / QUARTERS:g} to {(place + 1) / QUARTERS:g}", mine) for place, mine in enumerate(quarters)
        ),
        unqualified=(_share("all", faults), *(_share(part, _of(faults, part)) for part in parts)),
        false_stops=Share("stops", sum(_stops(one) for one in harmless), len(harmless)),
        false_warnings=Share("warnings", sum(bool(_counted(one)) for one in harmless), len(harmless)),
        healthy=Share("healthy", sum(bool(_counted(one)) for one in sound), len(sound)),
        missed=tuple(one for one in harmful if not news(one)),
        alarms=tuple(one for one in harmless if _counted(one)),
        opened=sum(one.harm.verdict == "open" for one in faults),
        seconds=statistics.median([one.said.seconds for one in seen]) if seen else float("nan"),
    )


def _of(seen: Iterable[Seen], part: str) -> list[Seen]:
    return [one for one in seen if one.draw.part == part]


def _counted(seen: Seen) -> Sequence[dict[str, str]]:
    """All that is said of a healthy set-up, and what is said of a change beyond what is said without it."""
    return seen.said.findings if seen.draw.group == "healthy" else news(seen)


def _stops(seen: Seen) -> bool:
    return any(one["severity"] == "stop" for one in _counted(seen))


def _share(name: str, seen: Sequence[Seen]) -> Share:
    found = [one for one in seen if news(one)]
    return Share(name, len(found), len(seen), sum(is_named(one) for one in found))


def to_json(figures: Figures, seen: Sequence[Seen]) -> dict[str, Any]:
    """Plain values: the figures with their intervals, then every draw."""
    plain = asdict(figures)
    for key in ("recall", "kinds", "severities", "unqualified"):
        plain[key] = [_plain(one) for one in getattr(figures, key)]
    for key in ("false_stops", "false_warnings", "healthy"):
        plain[key] = _plain(getattr(figures, key))
    plain["missed"] = [one.draw.number for one in figures.missed]
    plain["alarms"] = [one.draw.number for one in figures.alarms]
    return {**plain, "draws": [{**asdict(one), "new": news(one)} for one in seen]}


def _plain(share: Share) -> dict[str, Any]:
    return {**asdict(share), "share": share.share, "interval": share.interval}
