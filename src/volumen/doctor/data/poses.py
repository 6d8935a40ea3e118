"""Where the labels of each volume fit their image best: as they lie, shifted, mirrored or with axes exchanged.

Fisher's linear discriminant of surface and background, over features that no rotation changes. One model of all volumes
says where the labels lie that all share; for each volume the model of the others says whether it is another place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumen.doctor.data.placement import HERE, ORIENTATIONS, SHIFTS, Orientation
from volumen.doctor.data.readings import Numbers

Floats = NDArray[np.floating]
MOVES = np.array(SHIFTS)
POSES = len(SHIFTS) + len(ORIENTATIONS)
REGULAR = 1e-3
PER_VOXEL, PER_TURN = 0.004, 0.1
"""What a pose must be better by, relatively, to be preferred to the labels as they lie."""
ALIKE = 0.985
"""Of the best one's: shifts that explain as much differ along the sheets, the shortest of them is meant."""
SHARED_GAIN, FEW_GAIN, CLEAR_GAIN_OF_ALL, SINGLE_GAIN = 1.1, 1.35, 1.6, 1.15
FEW = 6
"""Volumes, of which most may face the same way."""
LEAST_SHARED, LEAST_SINGLE, LEAST_SMALL = 0.02, 0.06, 0.18
"""Of the variance, by which a pose explains more; that of a single small volume reaches 0.13 in images of noise."""
CLEAR_GAIN, CLEAR = 1.5, 0.1
"""By itself, without the other volumes, a volume must explain so much more elsewhere."""
MOST_KEPT = 0.8
"""Share of the surface that stays in place where a move is none."""
SURE_SHARED, SURE = 2.0, 3.0
"""Standard errors, over volumes and over the parts of the surface of one."""
NEAR_VOXELS = 4.5
FAR_KNOWS, FAR_HERE, FAR_DOUBT, NOTHING = 0.5, 0.3, 0.6, 0.05
"""To lie further off, or turned, a volume must be explained so well there, and so badly where it lies."""
UNEXPLAINED = 0.15
"""What a volume explains of its own labels where they lie wrong; measured: turned ones at most 0.14, healthy ones of
32^3 to 40^3 of which other volumes know nothing 0.18 and more."""
PLAINLY_KNOWS, PLAINLY_SURE = 0.8, 5.0
"""Where the model of five others and more means nothing as labels lie, and elsewhere as much as in the others, what the
volume explains by itself does not count: sheets that repeat themselves are explained anywhere."""
SMALL, SMALL_HERE = 44, 0.5
"""Least side below which other places fit as well by chance (0.65 to 1.2 times in healthy volumes of hard phantoms)."""
MOST_ODD, HANDFUL = 40, 8
ONE_PLACE = 1.0
"""Voxels within which shifts of several volumes are one."""
OWN = 0.8
"""Of what the volume explains by itself, another pose must still explain."""
LEAST_KNOWN = 0.3
"""Correlation that the model must reach in other volumes: labels that have nothing to do with images teach none."""
KNOWS = 0.3
"""Of what is explained in the other volumes, for a volume's pose to be told."""


@dataclass(frozen=True)
class Pose:
    """Where labels fit."""

    number: int
    shift: tuple[float, float, float]
    """By which the labels lie off their image, z y x in voxels, to a fraction; 0 for an orientation."""
    error: float
    """Of the shift, in voxels."""
    here: float
    """Share of the labels' variance that the image explains as they lie."""
    there: float
    """At this pose."""
    kept: float
    """Share of the surface that lies on surface there: what the wrong place leaves of it."""

    @property
    def orientation(self) -> Orientation | None:
        """None for a shift."""
        return ORIENTATIONS[self.number - len(SHIFTS)] if self.number >= len(SHIFTS) else None


@dataclass(frozen=True)
class Poses:
    """What was found over the volumes of a data set."""

    shared: Pose | None
    """Of the labels of all or most of them; None where they lie as they should."""
    followed: tuple[int, ...]
    """Numbers of the volumes that lie so; empty without `shared`."""
    single: dict[int, Pose]
    """Volumes that lie in another way than the rest."""
    explained: Floats
    """Share of each volume's variance that its own image explains where it lies, [V]."""
    facing: Floats
    """Of all surface, [3, 2]; see `measure_placement`."""


class _Table:
    """Measurements of all volumes, stacked."""

    def __init__(self, numbers: Sequence[Numbers]) -> None:
        stacked = [np.concatenate([one["at"], one["turned"]]).astype(np.float32) for one in numbers]
        self.parts = np.stack(stacked)  # [V, N, P, F]
        self.means = self.parts.mean(axis=2, dtype=np.float64)
        self.scatter = np.stack([one["scatter"].astype(np.float64) for one in numbers])
        self.scatter += REGULAR * np.eye(self.scatter.shape[-1])
        here = self.means[:, HERE]
        self.within = self.scatter - np.einsum("vf,vg->vfg", here, here) / 4
        self.small = [int(one["side"]) < SMALL for one in numbers]
        self.kept = np.stack([np.concatenate([one["kept"], one["kept_turned"]]) for one in numbers]).astype(np.float64)
        self.facing = np.stack([one["facing"].astype(np.float64) for one in numbers]).mean(axis=0)
        cost = np.concatenate([PER_VOXEL * np.linalg.norm(MOVES, axis=1), np.full(len(ORIENTATIONS), PER_TURN)])
        cost[len(SHIFTS)] = 1.0  # the identity among the orientations
        self.worth = 1 - cost

    def best(self, explained: Floats) -> int:
        """The pose that explains most, the shortest of those that explain as much."""
        weighed = np.where(np.isfinite(explained), explained, -np.inf) - (1 - self.worth) * np.abs(explained)
        weighed = np.where(np.isfinite(weighed), weighed, -np.inf)
        number = int(weighed.argmax())
        if number >= len(SHIFTS):
            return number
        most = weighed[number]
        alike = np.flatnonzero(weighed[: len(SHIFTS)] >= most - (1 - ALIKE) * abs(most))
        return int(alike[np.linalg.norm(MOVES[alike], axis=1).argmin()])


def find_poses(numbers: Sequence[Numbers]) -> Poses:
    """Where labels fit their images, of all volumes and of each.

    Args:
        numbers: Of `measure_placement`, by volume; at least one, none empty.
    """
    table = _Table(numbers)
    volumes = range(len(numbers))
    own = np.stack([_explained(table.means[one], table.within[one]) for one in volumes])
    first = [_clearly(table, own[one]) for one in volumes]
    shared = _shared(table)
    base = HERE if shared is None else shared.number
    rough = [base if one == HERE else one for one in first]
    single, rough = _odd_ones(table, own, rough, base)
    followed = []
    for volume in volumes:
        along = _scores(table, volume, rough)[0]
        if base != HERE and volume not in single and along[base].mean() > along[HERE].mean():
            followed.append(volume)
    if shared is not None and 2 * len(followed) < len(numbers):
        shared, followed = None, []
    if shared is None and (agreed := _agreed(single, len(numbers))) is not None:
        shared, followed, single = agreed, list(single), {}
    return Poses(shared, tuple(followed), single, own[:, HERE], table.facing)


def _agreed(single: dict[int, Pose], volumes: int) -> Pose | None:
    """The pose of most volumes, each of which was found by itself; None where they differ."""
    found = list(single.values())
    shifts = np.array([pose.shift for pose in found])
    if 2 * len(found) <= volumes or any(pose.orientation != found[0].orientation for pose in found):
        return None
    middle = np.median(shifts, axis=0)
    if np.abs(shifts - middle).max() > ONE_PLACE:
        return None
    here, there, kept = (float(np.mean([getattr(pose, name) for pose in found])) for name in ("here", "there", "kept"))
    z, y, x = middle.tolist()
    return Pose(found[0].number, (z, y, x), max(pose.error for pose in found), here, there, kept)


def _explained(means: Floats, within: Floats) -> Floats:
    """Share of variance that the discriminant fitted at each pose [N, F] explains, [N]."""
    apart = np.einsum("nf,nf->n", means, np.linalg.solve(within, means.T).T) / 4
    return np.asarray(apart / (1 + apart))


def _weights(table: _Table, volumes: Sequence[int], poses: Sequence[int]) -> Floats:
    means = np.mean([table.means[one, poses[one]] for one in volumes], axis=0)
    return np.asarray(np.linalg.solve(table.scatter[list(volumes)].mean(axis=0), means))


def _scores(table: _Table, volume: int, poses: Sequence[int]) -> tuple[Floats, float]:
    """What the model of the other volumes is worth here, by pose and part [N, P]; and there, by their own median."""
    others = [one for one in range(len(poses)) if one != volume] or [volume]
    weights = _weights(table, others, poses)
    spread = 2 * np.sqrt(np.maximum(np.einsum("f,vfg,g->v", weights, table.within, weights), REGULAR))
    apart = table.parts[volume] @ weights / spread[volume]
    known = [table.means[one, poses[one]] @ weights / spread[one] for one in others]
    return apart / np.sqrt(1 + apart**2), float(np.median(known / np.sqrt(1 + np.square(known))))


def _odd_ones(table: _Table, own: Floats, poses: Sequence[int], base: int) -> tuple[dict[int, Pose], list[int]]:
    """Volumes with a pose of their own, by their number, and the pose of each.

    The one by which the model of all gains most comes first, and the model is fitted anew: a few volumes that are wrong
    would make good ones look so. Of a handful, each may come first, and the fewest odd ones are right.
    """
    tries = [_odd_from(table, own, poses, base, None)]
    if tries[0][0] and len(poses) <= HANDFUL:
        tries += [_odd_from(table, own, poses, base, one) for one in range(len(poses))]
        tries = [one for one in tries if one[0]]
    return min(tries, key=lambda one: (len(one[0]), -sum(pose.there - pose.here for pose in one[0].values())))


def _odd_from(
    table: _Table, own: Floats, given: Sequence[int], base: int, first: int | None
) -> tuple[dict[int, Pose], list[int]]:
    found: set[int] = set()
    poses = list(given)
    for turn in range(min(len(poses) // 2 + 1, MOST_ODD)):
        if turn == 0 and first is not None:
            order = [first]
        else:
            left = [one for one in range(len(poses)) if one not in found]
            order = sorted(left, key=lambda one: -_gain(table, one, poses))
        for volume in order:
            pose = _single(table, volume, poses, own[volume], base)
            if pose is not None:
                found.add(volume)
                poses[volume] = pose.number
                break
        else:
            break
    checked = {one: _single(table, one, poses, own[one], base) for one in range(len(poses))}
    return {one: pose for one, pose in checked.items() if pose is not None}, poses


def _gain(table: _Table, volume: int, poses: Sequence[int]) -> float:
    """By how much the model of all volumes explains more where one of them has its best pose."""
    rest = sum(table.means[one, poses[one]] for one in range(len(poses)) if one != volume)
    explained = _explained((rest + table.means[volume]) / len(poses), table.within.mean(axis=0))
    return float(explained[table.best(explained)] - explained[poses[volume]])


def _clearly(table: _Table, own: Floats) -> int:
    """The orientation that a volume by itself leaves no doubt of; else as it lies."""
    best = len(SHIFTS) + int(np.nan_to_num(own[len(SHIFTS) + 1 :]).argmax()) + 1
    return best if own[best] > CLEAR_GAIN * own[HERE] + CLEAR else HERE


def _shared(table: _Table) -> Pose | None:
    """The pose of all labels together, where it is another one."""
    within, means = table.within.mean(axis=0), table.means.mean(axis=0)
    explained = _explained(means, within)
    best, kept = table.best(explained), table.kept.mean(axis=0)
    factor = FEW_GAIN if len(table.means) < FEW else SHARED_GAIN
    if explained[best] < factor * explained[HERE] + LEAST_SHARED or kept[best] > MOST_KEPT:
        return None
    random = np.random.default_rng(0)
    draws = (table.means[random.integers(len(table.means), size=len(table.means))].mean(axis=0) for _ in range(20))
    trials = [_explained(draw, within) for draw in draws]
    gains = np.array([one[best] - one[HERE] for one in trials])
    is_clear = explained[best] > CLEAR_GAIN_OF_ALL * explained[HERE]
    if gains.mean() < (1.0 if is_clear else SURE_SHARED) * gains.std():
        return None
    shifts = np.array([_refined(one, best) for one in trials])
    error = _error(best, float(np.linalg.norm(shifts.std(axis=0))))
    return Pose(best, _refined(explained, best), error, float(explained[HERE]), float(explained[best]), kept[best])


def _single(table: _Table, volume: int, poses: Sequence[int], own: Floats, base: int) -> Pose | None:
    """A volume's own pose, where it is another one than that of the rest."""
    along, known = _scores(table, volume, poses)
    score = along.mean(axis=1)
    signed = np.sign(score) * score**2
    best, kept = table.best(signed), float(table.kept[volume, table.best(signed)])
    least = SINGLE_GAIN * max(signed[base], 0.0) + (LEAST_SMALL if table.small[volume] else LEAST_SINGLE)
    if (
        known < LEAST_KNOWN
        or score[best] < KNOWS * known
        or signed[best] < least
        or (base == HERE and kept > MOST_KEPT)
    ):
        return None
    means_nothing = signed[base] < NOTHING  # to the model of the others, as they lie
    gain = along[best] - along[base]
    error_of_gain = gain.std(ddof=1) / np.sqrt(len(gain))
    is_plain = (
        means_nothing
        and len(poses) >= FEW
        and not table.small[volume]
        and score[best] > PLAINLY_KNOWS * known
        and gain.mean() > PLAINLY_SURE * error_of_gain
    )
    if base == HERE and _is_far(best) and not is_plain:
        doubted = means_nothing and own[base] < UNEXPLAINED
        fits_badly = own[base] < (FAR_DOUBT if doubted else FAR_HERE) * own[best]
        if score[best] < FAR_KNOWS * known or not fits_badly:
            return None
    elif own[best] < OWN * own[base] and not means_nothing:
        return None
    if base == HERE and table.small[volume] and own[base] > SMALL_HERE * own[best]:
        return None
    if gain.mean() < SURE * error_of_gain:
        return None
    leave = [np.delete(along, part, axis=1).mean(axis=1) for part in range(along.shape[1])]
    shifts = np.array([_refined(np.sign(one) * one**2, best) for one in leave])
    error = _error(best, float(np.linalg.norm(shifts.std(axis=0)) * np.sqrt(len(leave) - 1)))
    return Pose(best, _refined(signed, best), error, float(signed[HERE]), float(signed[best]), kept)


def _is_far(pose: int) -> bool:
    return pose >= len(SHIFTS) or bool(np.linalg.norm(MOVES[pose]) > NEAR_VOXELS)


def _error(best: int, scatter: float) -> float:
    """Of a shift, in voxels: no less than a fifth of the way to the next one that was tried."""
    if best >= len(SHIFTS):
        return 0.0
    ways = np.linalg.norm(MOVES - MOVES[best], axis=1)
    return max(scatter, float(np.sort(ways)[1:4].mean()) / 5)


def _refined(explained: Floats, best: int) -> tuple[float, float, float]:
    """The labels' shift to a fraction of a voxel: the top of the quadric through the shifts about the best one.

    Along the sheets, where it hardly bends, the whole shift stays.
    """
    if best >= len(SHIFTS):
        return (0.0, 0.0, 0.0)
    near = np.flatnonzero((np.abs(MOVES - MOVES[best]) <= 2).all(axis=1) & np.isfinite(explained[: len(SHIFTS)]))
    offsets = (MOVES[near] - MOVES[best]).astype(np.float64)
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    design = np.column_stack([np.ones(len(near)), offsets, *(offsets[:, a] * offsets[:, b] for a, b in pairs)])
    weight = np.exp(-(offsets**2).sum(axis=1) / 4)[:, None]
    fitted = np.linalg.lstsq(design * weight, explained[near] * weight[:, 0], rcond=None)[0]
    bend = np.zeros((3, 3))
    for (a, b), value in zip(pairs, fitted[4:], strict=True):
        bend[a, b] += value
        bend[b, a] += value
    values, axes = np.linalg.eigh(bend)
    steep = values < 0.15 * min(values.min(), 0)
    step = -(axes[:, steep] / values[steep]) @ (axes[:, steep].T @ fitted[1:4])
    z, y, x = -(MOVES[best] + np.clip(step, -1, 1))
    return float(z), float(y), float(x)
