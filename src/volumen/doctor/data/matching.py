"""Which volumes share a part, by their prints alone; every pair is compared.

Keypoints that look alike each say how one volume would have to be turned and moved to lie on the other. Those of
different places never say the same, those of a shared part all do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumen.doctor.data.prints import KEYPOINTS, descriptors_of
from volumen.doctor.data.readings import Numbers
from volumen.doctor.data.turns import BETWEEN, MATRICES

LIKE = 0.9
"""Correlation of descriptors from which two keypoints look alike."""
VOTES = 3
"""Keypoints that say the same; measured: 1 or 2 between different volumes, rarely 3, and 20 where half is shared."""
CELL = 8.0  # voxels within which two moves are the same
AMBIGUOUS = 12  # places of one volume that a keypoint looks like: it says nothing, as in a periodic stack
ALL_KEYPOINTS = 10_000
FEWEST_KEYPOINTS = 64
QUERIES = 2_048  # compared at once


@dataclass(frozen=True)
class Candidate:
    """Two volumes that seem to share a part."""

    one: int
    other: int
    turn: int
    """Of `other`, to lie on `one` (`doctor.data.turns`)."""
    move: tuple[float, float, float]
    """Of the turned `other`'s middle from that of `one`, in voxels, z y x."""
    votes: int


@dataclass(frozen=True)
class _Keypoints:
    """Of several volumes, one after the other."""

    volume: NDArray[np.int64]
    places: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    """[N, variants, samples], of unit length."""
    turns: NDArray[np.uint8]
    first: NDArray[np.int64]
    """Keypoint with which each volume begins."""


def find_candidates(prints: Sequence[Numbers]) -> list[Candidate]:
    """The likeliest turn and move of every two volumes that seem to share a part, most votes first.

    With n volumes of 320 keypoints, n^2 / 2 x 320 x 960 products of descriptors; beyond 30 volumes only the strongest
    keypoints of each are compared.
    """
    kept = min(KEYPOINTS, max(FEWEST_KEYPOINTS, ALL_KEYPOINTS // max(len(prints), 1)))
    found: dict[tuple[int, int], Candidate] = {}
    for step in np.unique(np.concatenate([np.asarray(one["steps"]) for one in prints])).tolist():
        keypoints = _of_step(prints, step, kept)
        for one in _candidates(keypoints):
            before = found.get((one.one, one.other))
            if before is None or before.votes < one.votes:
                found[one.one, one.other] = one
    return sorted(found.values(), key=lambda one: -one.votes)


def _of_step(prints: Sequence[Numbers], step: int, kept: int) -> _Keypoints:
    chosen = [np.flatnonzero(np.asarray(one["steps"]) == step)[:kept] for one in prints]
    columns = {
        name: np.concatenate([np.asarray(one[name])[rows] for one, rows in zip(prints, chosen, strict=True)])
        for name in ("places", "samples", "turns", "signs")
    }
    descriptors = descriptors_of(columns["samples"], columns["turns"], columns["signs"])
    counts = np.array([len(rows) for rows in chosen])
    volume = np.repeat(np.arange(len(prints)), counts)
    first = np.concatenate([[0], np.cumsum(counts)])
    return _Keypoints(volume, columns["places"].astype(np.float32), descriptors, columns["turns"], first)


def _candidates(keypoints: _Keypoints) -> Iterator[Candidate]:
    """Blocks of whole volumes, so that all votes for a pair are counted together."""
    volumes = len(keypoints.first) - 1
    blocks, start = [], 0
    for end in range(1, volumes + 1):
        if end == volumes or keypoints.first[end + 1] - keypoints.first[start] > QUERIES:
            blocks.append((start, end))
            start = end
    for number, (low, high) in enumerate(blocks):
        rows = slice(keypoints.first[low], keypoints.first[high])
        for others_low, others_high in blocks[number:]:
            columns = slice(keypoints.first[others_low], keypoints.first[others_high])
            yield from _vote(keypoints, rows, columns)


def _vote(keypoints: _Keypoints, rows: slice, columns: slice) -> Iterator[Candidate]:
    hits = []
    for variant in range(keypoints.turns.shape[1]):
        likeness = keypoints.descriptors[rows, 0] @ keypoints.descriptors[columns, variant].T
        ours, theirs = np.nonzero(likeness > LIKE)
        hits.append(np.stack([ours + rows.start, theirs + columns.start, np.full_like(ours, variant)]))
    ours, theirs, variants = np.concatenate(hits, axis=1)
    size = len(keypoints.first)
    said = ours * size + keypoints.volume[theirs]
    _, inverse, counts = np.unique(said, return_inverse=True, return_counts=True)
    useful = (counts[inverse] <= AMBIGUOUS) & (keypoints.volume[ours] < keypoints.volume[theirs])
    ours, theirs, variants = ours[useful], theirs[useful], variants[useful]
    if not len(ours):
        return
    turns = BETWEEN[keypoints.turns[ours, 0], keypoints.turns[theirs, variants]]
    moved = np.einsum("nij,nj->ni", MATRICES[turns].astype(np.float32), keypoints.places[theirs])
    moves = keypoints.places[ours] - moved
    pairs = keypoints.volume[ours] * size + keypoints.volume[theirs]
    best: dict[int, Candidate] = {}
    for offset in (0.0, 0.5):
        cells = np.floor(moves / CELL + offset).astype(np.int64)
        _, group = np.unique(np.column_stack([pairs, turns, cells]), axis=0, return_inverse=True)
        group = group.ravel()
        voters = np.bincount(np.unique(np.column_stack([group, ours]), axis=0)[:, 0])
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(voters) + 1))
        for number in np.flatnonzero(voters >= VOTES):
            members = order[starts[number] : starts[number + 1]]
            pair, votes = int(pairs[members[0]]), int(voters[number])
            if pair not in best or best[pair].votes < votes:
                z, y, x = np.median(moves[members], axis=0).tolist()
                one, other = divmod(pair, size)
                best[pair] = Candidate(one, other, int(turns[members[0]]), (z, y, x), votes)
    yield from best.values()
