"""The evaluation in a run folder: `evaluation.json`, sealed for its run, and the slices whose hashes it holds.

Nothing of an evaluation takes its place before all of it is there: one that breaks off leaves the one before.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from volumen.config.postprocessing import Postprocessing
from volumen.errors import DamagedError, UserError
from volumen.experiments.scoring import FORMAT_VERSION, Evaluation
from volumen.files import PARTIAL
from volumen.runs.folder import run_owner
from volumen.system.names import checked_name, shown
from volumen.system.records import read_bounded, read_record, typed, write_record

EVALUATION = "evaluation.json"
SLICES = Path("evaluation") / "slices"
MOST_PICTURE_BYTES = 64 * 2**20
MOST_NAMED = 5


class Pictures:
    """Slices that wait beside their places until the evaluation is whole; made by `waiting_pictures`."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._waiting: dict[str, Path] = {}
        self.hashes: dict[str, str] = {}
        """SHA-256 by case id."""

    def add(self, case_id: str, png: bytes) -> None:
        """Keep the picture of a case."""
        place = self._run / SLICES.parent / f"{PARTIAL}{os.getpid()}-{secrets.token_hex(6)}.png"
        self._waiting[case_id] = place
        place.write_bytes(png)
        self.hashes[case_id] = hashlib.sha256(png).hexdigest()

    def publish(self) -> None:
        """Put all of them in their places."""
        for case_id in list(self._waiting):
            os.replace(self._waiting.pop(case_id), self._run / SLICES / f"{case_id}.png")

    def discard(self) -> None:
        """Remove those that still wait."""
        for place in self._waiting.values():
            place.unlink(missing_ok=True)


@contextmanager
def waiting_pictures(run: Path) -> Iterator[Pictures]:
    """Pictures for an evaluation; those that were not published are gone afterwards."""
    pictures = Pictures(run)
    try:
        yield pictures
    finally:
        pictures.discard()


def write_evaluation(run: Path, evaluation: Evaluation) -> None:
    """Replace the evaluation that a run folder holds.

    Raises:
        OSError: No room; the one before stands.
    """
    write_record(run / EVALUATION, evaluation.record(), owner=run_owner(run))


def load_evaluation(run: Path) -> Evaluation:
    """The evaluation that a run folder holds.

    Raises:
        UserError: It holds none, one of another version or run, or a damaged one.
    """
    path, fix = run / EVALUATION, f"run `volumen evaluate {run}` again"
    if not path.is_file():
        raise UserError(f"{run} has no {EVALUATION}: run `volumen evaluate {run}` first")
    record: dict[str, Any] = read_record(path, dict[str, Any], fix, owner=run_owner(run))
    if record.get("version") != FORMAT_VERSION:
        raise UserError(f"{path} is of version {shown(record.get('version'))}, expected {FORMAT_VERSION}: {fix}")
    evaluation: Evaluation = typed(record, Evaluation, path, fix)
    for case in evaluation.cases:
        checked_name(case.id, "case id", path)
    if "postprocessing" in evaluation.settings:
        typed(evaluation.settings["postprocessing"], Postprocessing, f"{path}: settings.postprocessing", fix)
    return evaluation


def read_pictures(run: Path, evaluation: Evaluation) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The slices of an evaluation, PNG by case id, and a sentence on those that are not what it left."""
    whole: dict[str, bytes] = {}
    missing, strange = [], []
    for case_id, digest in evaluation.pictures.items():
        path = run / SLICES / f"{case_id}.png"
        if not path.is_file():
            missing.append(case_id)
            continue
        try:
            content = read_bounded(path, "it is left out", MOST_PICTURE_BYTES)
        except DamagedError:
            content = b""
        if hashlib.sha256(content).hexdigest() == digest:
            whole[case_id] = content
        else:
            strange.append(case_id)
    said = []
    if missing:
        said.append(f"{SLICES}: the pictures of {_named(missing)} are missing")
    if strange:
        said.append(f"{SLICES}: the pictures of {_named(strange)} are not those of the evaluation and are left out")
    return whole, tuple(said)


def _named(case_ids: Sequence[str]) -> str:
    more = f" and {len(case_ids) - MOST_NAMED} more" if len(case_ids) > MOST_NAMED else ""
    return ", ".join(case_ids[:MOST_NAMED]) + more
