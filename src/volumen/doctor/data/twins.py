"""Is a volume, or a part of it, in the data set twice: turned, moved, recoloured or noisy?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from volumen.data.dataset import Case, PreparedDataset
from volumen.doctor.context import Context
from volumen.doctor.data.matching import VOTES, Candidate, find_candidates
from volumen.doctor.data.overlap import Overlap, measure_overlap
from volumen.doctor.data.readings import Numbers
from volumen.doctor.data.turns import in_words
from volumen.doctor.findings import Finding, Severity

AGREES = 0.75
"""Correlation of structure from which voxels are the same; measured: 0.87 and more under noise of 60 grey levels, up to
0.70 for the best place of different volumes that share much."""
FEW_VOTES, FEW_VOXELS, AGREES_SURELY = 8, 40**3, 0.9
"""Keypoints, and voxels that are shared, up to which these have to agree more: different volumes of 32^3 to 48^3, which
hold a few parallel sheets, have 3 to 8 of the former and agree by up to 0.82."""
UNIQUE = 0.12
"""By which it exceeds any other place: a periodic stack matches itself everywhere, which says nothing."""
WHOLE = 0.9  # of a volume, to be called the whole of it
LEAST = 0.05  # of a volume that is worth a word
WEAK_CANDIDATES = 20
MOST_CHECKED = 20  # on their voxels, and one for each volume
SHOWN = 4


@dataclass(frozen=True)
class Twins:
    """Two volumes that share a part."""

    one: Case
    other: Case
    turn: int
    overlap: Overlap | None
    """None for the same file."""

    @property
    def share(self) -> float:
        """Of the smaller volume, 0..1."""
        return 1.0 if self.overlap is None else self.overlap.share

    def told(self) -> str:
        """What is the same, how it lies, and how well voxels agree."""
        if self.overlap is None:
            return f"{self.other.id} and {self.one.id} are the same file"
        how = [in_words(self.turn)] if self.turn else []
        if any(self.overlap.move):
            how.append(f"moved by {' '.join(map(str, self.overlap.move))} voxels (z y x)")
        if self.overlap.agreement < 0:
            how.append("grey values inverted")
        manner = f" ({', '.join(how)})" if how else ""
        return (
            f"{self.other.id} on {self.one.id}{manner}: {100 * self.share:.0f} % of the smaller volume is shared, "
            f"where voxels correlate by {abs(self.overlap.agreement):.2f}"
        )


def find_twins(dataset: PreparedDataset, cases: Sequence[Case], prints: Mapping[str, Numbers]) -> list[Twins]:
    """Pairs of volumes that share a part, checked on their voxels, those that share most first."""
    first: dict[str, Case] = {}
    found, known = [], set()
    for number, case in enumerate(cases):
        twin = first.setdefault(case.image_sha256, case)
        if twin is not case:
            found.append(Twins(twin, case, 0, None))
            known |= {(other, number) for other in range(number) if cases[other].image_sha256 == case.image_sha256}
    weak = 0
    for candidate in find_candidates([prints[case.id] for case in cases])[: MOST_CHECKED + len(cases)]:
        weak += candidate.votes <= VOTES
        if (candidate.one, candidate.other) in known or weak > WEAK_CANDIDATES:
            continue
        one, other = cases[candidate.one], cases[candidate.other]
        if (overlap := _checked(dataset, one, other, candidate)) is not None:
            found.append(Twins(one, other, candidate.turn, overlap))
    return sorted(found, key=lambda twins: -twins.share)


def _checked(dataset: PreparedDataset, one: Case, other: Case, candidate: Candidate) -> Overlap | None:
    ours, theirs = np.asarray(dataset.image(one.id)), np.asarray(dataset.image(other.id))
    found = measure_overlap(ours, theirs, candidate.turn, candidate.move)
    if found is None or found.share < LEAST:
        return None
    return found if are_same(found, candidate.votes) else None


def are_same(overlap: Overlap, votes: int) -> bool:
    """Whether the voxels say so, more surely where few keypoints do."""
    agreement = abs(overlap.agreement)
    least = AGREES if votes > FEW_VOTES and overlap.voxels > FEW_VOXELS else AGREES_SURELY
    return agreement > least and agreement - overlap.elsewhere > UNIQUE


def check_twins(context: Context, prints: Mapping[str, Numbers]) -> Iterator[Finding]:
    """Volumes on both sides of the fold, in one part of it, and in the test set.

    Args:
        context: The run.
        prints: Of every volume, by its case.
    """
    dataset = context.dataset
    cases = [case for case in dataset.cases if case.id in prints]
    twins = find_twins(dataset, cases, prints)
    training, validation = set(context.training), set(context.validation)
    across, within, tested = [], [], []
    for pair in twins:
        ids = {pair.one.id, pair.other.id}
        if ids & training and ids & validation:
            across.append(pair)
        elif ids <= training or ids <= validation:
            within.append(pair)
        elif ids & (training | validation):
            tested.append(pair)
    yield from _across(across, validation)
    yield from _within(within, several=len({case.scroll_id for case in dataset.labelled}) > 1)
    if tested:
        yield Finding(
            code="P7",
            severity=Severity.note,
            title="labelled volumes are in the test set too",
            evidence=_listed(tested),
            causes=("a volume was put into both", "two crops overlap"),
            remedies=("do not judge by scores on these test images",),
            where=f"test_images/{next(case.id for case in (tested[0].one, tested[0].other) if not case.has_label)}",
        )


def _across(twins: Sequence[Twins], validation: set[str]) -> Iterator[Finding]:
    if not twins:
        return
    first = twins[0]
    ours, theirs = (first.one, first.other) if first.one.id in validation else (first.other, first.one)
    held_out = {case.id for pair in twins for case in (pair.one, pair.other)} & validation
    more = f", and {len(held_out) - 1} more" if len(held_out) > 1 else ""
    part = "" if first.share >= WHOLE else f"{100 * first.share:.0f} % of "
    yield Finding(
        code="P7",
        severity=Severity.stop,
        title=f"{part}the held-out volume {ours.id} is in the training part as {theirs.id}{more}",
        evidence=_listed(twins),
        causes=("a volume is in the data set twice", "two crops overlap"),
        remedies=(
            "give both one scroll_id in train.csv, then volumen prepare and volumen folds PREPARED --by scroll",
            "remove one of them and prepare again",
        ),
        where=f"train_images/{ours.id}",
    )


def _within(twins: Sequence[Twins], *, several: bool) -> Iterator[Finding]:
    """Kept together by folds by scroll, or by luck."""
    lucky = [pair for pair in twins if pair.one.scroll_id != pair.other.scroll_id or not several]
    kept = [pair for pair in twins if pair not in lucky]
    for pairs, severity in ((lucky, Severity.warn), (kept, Severity.note)):
        if not pairs:
            continue
        apart = severity == Severity.warn
        yield Finding(
            code="P7",
            severity=severity,
            title="volumes share voxels" + (", and other folds may put them apart" if apart else ""),
            evidence=_listed(pairs),
            causes=("a volume is in the data set twice", "two crops overlap"),
            remedies=(
                "give both one scroll_id in train.csv, other volumes other ones, and prepare again"
                if apart
                else "remove one of them, or keep in mind that it counts twice",
            ),
            where=f"train_images/{pairs[0].other.id}",
        )


def _listed(twins: Sequence[Twins]) -> str:
    more = f"; and {len(twins) - SHOWN} more" if len(twins) > SHOWN else ""
    return "; ".join(pair.told() for pair in twins[:SHOWN]) + more
