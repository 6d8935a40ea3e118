"""Whether a draw does harm: short trainings of it and of its healthy twin, each made once and kept by its content."""

import hashlib
import json
import secrets
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from volumen.config.postprocessing import Postprocessing
from volumen.config.schema import Config
from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.benchmark.faultgen.bundle import Bundle, config_in, dataset_of
from volumen.doctor.benchmark.faultgen.draws import KINDS, Draw, made
from volumen.doctor.benchmark.injections import Injection, Injector
from volumen.doctor.benchmark.running import score_on, train_faulty
from volumen.errors import DamagedError, UserError
from volumen.metrics import mean_of_known
from volumen.postprocess import apply_pipeline
from volumen.runs.run import Run
from volumen.system.records import read_record, write_record

RUNS, WORK, VERSION = "harm", "work", 1
FIRST, MOST = 3, 5
"""Seeds of a fault: after the first ones the matter may be settled."""
LEVEL, SIGMAS, CLEARLY_NEUTRAL = 0.05, 2.0, 0.5
LABELS_LOST, LABELS_KEPT = 0.05, 0.02
"""Dice that post-processing may take from the true labels: above the first it does harm, below the second none."""
Verdict = Literal["harmful", "neutral", "open"]


@dataclass(frozen=True)
class Harm:
    """What a draw costs."""

    verdict: Verdict
    """`open`: not looked at, or not proven either way."""
    by: str
    """What it was shown by, see `kind.Harm`."""
    drop: float | None = None
    """Dice lost on clean volumes that nobody saw, or of the labels."""
    p: float | None = None
    """Of Welch's test, one-sided."""


@dataclass(frozen=True)
class Scored:
    """One short training."""

    dice: float
    outcome: str
    version: int = VERSION


Ask = Callable[[Bundle, int], float | None]
"""The Dice of a set-up under a seed; None where it is not known and there is no time to make it."""


def harm_of(draw: Draw, ask: Ask, sources: tuple[Path, ...] = (), kept: Path | None = None) -> Harm:
    """The harm of a draw, as far as runs are known or let be made.

    Args:
        draw: A fault; others do none.
        ask: For the Dice of a run.
        sources: Data sets for crops.
        kept: Folder in which drawn volumes are kept.
    """
    if draw.group != "fault":
        return Harm("neutral", "definition")
    by = KINDS[draw.kind].harm
    if by == "definition":
        return Harm("harmful", by)
    broken, twin = made(draw, sources, plainer=by == "training", kept=kept)
    if by == "labels":
        lost = labels_lost(broken)
        return Harm("harmful" if lost > LABELS_LOST else "neutral" if lost < LABELS_KEPT else "open", by, lost)
    healthy: list[float] = []
    faulty: list[float] = []
    for number in range(MOST):
        for found, bundle, most in ((healthy, twin, MOST), (faulty, broken, FIRST)):
            if number < most and (dice := ask(bundle, number)) is not None:
                found.append(dice)
    verdict = judged(faulty, healthy)
    for number in range(FIRST, MOST):
        if verdict.verdict == "open" and (dice := ask(broken, number)) is not None:
            faulty.append(dice)
            verdict = judged(faulty, healthy)
    return verdict


def judged(faulty: Sequence[float], healthy: Sequence[float]) -> Harm:
    """Harmful where faulty runs score lower by Welch's test (p < 0.05) and by more than two standard deviations.

    A drop below half a deviation is neutral from three seeds on, one below a whole one after all of five.
    """
    if len(faulty) < FIRST or len(healthy) < MOST:
        return Harm("open", "training")
    drop, sigma = statistics.fmean(healthy) - statistics.fmean(faulty), statistics.stdev(healthy)
    p = welch(healthy, faulty)
    verdict: Verdict = "open"
    if p < LEVEL and drop > SIGMAS * sigma:
        verdict = "harmful"
    elif drop < CLEARLY_NEUTRAL * sigma or (len(faulty) >= MOST and drop < sigma):
        verdict = "neutral"
    return Harm(verdict, "training", drop, p)


def welch(higher: Sequence[float], lower: Sequence[float]) -> float:
    """One-sided p of Welch's (1947) test that the first mean is higher; exact where neither sample varies."""
    if statistics.pstdev(higher) == statistics.pstdev(lower) == 0:
        return 0.0 if statistics.fmean(higher) > statistics.fmean(lower) else 1.0
    return float(stats.ttest_ind(higher, lower, equal_var=False, alternative="greater").pvalue)


def labels_lost(bundle: Bundle) -> float:
    """1 - Dice of what the post-processing leaves of the true labels, mean over the volumes."""
    steps = Postprocessing.model_validate_json(json.dumps(bundle.values["postprocessing"]))
    lost = []
    for volume in bundle.volumes:
        known, truth = volume.label != IGNORE, volume.label == SURFACE
        mask = np.asarray(apply_pipeline(truth.astype(np.float32), steps)) > 0
        both, all_of = int((mask & truth & known).sum()), int((mask & known).sum()) + int(truth.sum())
        lost.append(1 - 2 * both / max(all_of, 1))
    return statistics.fmean(lost)


def known_dice(out: Path, bundle: Bundle, seed: int) -> float | None:
    """The Dice of a run that was made before."""
    place = out / RUNS / f"{_key(bundle, seed)}.json"
    if not place.is_file():
        return None
    try:
        scored: Scored = read_record(place, Scored, "remove it, it is made again")
    except DamagedError:
        return None
    return scored.dice if scored.version == VERSION else None


def train_dice(out: Path, bundle: Bundle, seed: int) -> float:
    """The Dice of a set-up's best checkpoint on its unseen volumes, 0 where there is none: one training, kept.

    Raises:
        UserError: The folder cannot be written to.
    """
    if (known := known_dice(out, bundle, seed)) is not None:
        return known
    tree = config_in(bundle, dataset_of(bundle, out), "draw", seed)
    folder = out / WORK / f"{_key(bundle, seed)}-{secrets.token_hex(3)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        config = Config.model_validate_json(json.dumps(tree))
        outcome = train_faulty(config, folder, Injector(Injection(), 0.0, seed))
        trained = Run(folder).trained("best")
        dice = mean_of_known(score_on(trained.model, trained.config, one)[0] for one in bundle.unseen)
    except UserError as error:  # nothing was learned, or nothing was kept
        dice, outcome = 0.0, f"failed: {error}"[:200]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    place = out / RUNS / f"{_key(bundle, seed)}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_record(place, asdict(Scored(dice, outcome)))
    return dice


def _key(bundle: Bundle, seed: int) -> str:
    """Of all that the run depends on: volumes, division, settings, and what it is scored on."""
    digest = hashlib.sha256(json.dumps([seed, bundle.training, bundle.scrolls, _plain(bundle)]).encode())
    for volume in (*bundle.volumes, *bundle.unseen):
        for array in (volume.image, volume.label):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]


def _plain(bundle: Bundle) -> Any:
    return config_in(bundle, Path("dataset"), "draw")
