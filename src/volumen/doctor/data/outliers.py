"""Volumes that are unlike the others: each by the gravest of what can be said of it, one finding for a kind."""

from collections.abc import Iterator, Mapping

import numpy as np

from volumen.doctor.data.outlier_laws import LAWS, LOOK, Law
from volumen.doctor.data.portraits import Portrait
from volumen.doctor.data.sights import Sight
from volumen.doctor.findings import Finding
from volumen.system.output import counted

FEWEST_VOLUMES = 3
MOST_NAMED = 6


def outliers(portraits: Mapping[str, Portrait]) -> dict[str, Law]:
    """Volumes that are unlike the others, with the first law that says how."""
    found: dict[str, Law] = {}
    if len(portraits) < FEWEST_VOLUMES:
        return found
    for case, mine in portraits.items():
        sight = Sight(mine, tuple(one for other, one in portraits.items() if other != case))
        law = next((law for law in LAWS if law.holds(sight)), None)
        if law is not None:
            found[case] = law
    return found


def findings_of(portraits: Mapping[str, Portrait], found: Mapping[str, Law]) -> Iterator[Finding]:
    """One finding for a kind of outlier, with its volumes' numbers and the range of the others'."""
    for law in LAWS:
        cases = [case for case, one in found.items() if one is law]
        if cases:
            yield Finding(
                code=law.code,
                severity=law.severity,
                title=f"{counted(len(cases), 'volume')} of {len(portraits)}: {law.title}",
                evidence=_evidence(law, cases, portraits, found),
                causes=law.causes,
                remedies=(
                    law.remedy.format(code=law.code),
                    *(() if law.remedy is LOOK else (LOOK.format(code=law.code),)),
                ),
                where=f"train_images/{cases[0]}" if len(cases) == 1 else ", ".join(cases[:MOST_NAMED]),
            )


def _evidence(law: Law, cases: list[str], portraits: Mapping[str, Portrait], found: Mapping[str, Law]) -> str:
    parts = []
    for name, number, pattern in law.shown:
        rest = [value for case, one in portraits.items() if case not in found and np.isfinite(value := number(one))]
        usual = f"; the others {pattern.format(min(rest))} to {pattern.format(max(rest))}" if rest else ""
        mine = ", ".join(f"{case} {_shown(number(portraits[case]), pattern)}" for case in cases[:MOST_NAMED])
        more = f" and {len(cases) - MOST_NAMED} more" if len(cases) > MOST_NAMED else ""
        parts.append(f"{name}: {mine}{more}{usual}")
    return ". ".join(parts)


def _shown(value: float, pattern: str) -> str:
    return pattern.format(value) if np.isfinite(value) else "none"
