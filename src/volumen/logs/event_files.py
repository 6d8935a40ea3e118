"""TensorBoard's event files: scalars by tag and step.

The frames of a file (length, check, data, check) are walked here, so that a damaged or hostile length costs nothing;
what stands in them is parsed by the optional package `tensorboard`.
"""

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from volumen.errors import UserError
from volumen.logs.gather import Gathering
from volumen.logs.names import IGNORED, SPLITS, VALIDATION, Meaning, meaning_by, words_of
from volumen.logs.rows import Reading, Row
from volumen.system.names import some

FRAME_HEAD, FRAME_CHECK = 12, 4
MOST_FRAME_BYTES = 256 * 2**20
MOST_SCALAR_BYTES = 4096
"""Of an event of one scalar; larger ones are pictures, histograms and graphs, and passed over."""
MOST_FILES = 1000
MOST_TAGS = 2000
MOST_POINTS = 5_000_000
_DOUBLE, _FLOAT, _INT32, _INT64 = 2, 1, 3, 9
Parse = Callable[[bytes], Any]


@dataclass
class _Points:
    """The scalars of a folder: value by step, by tag."""

    by_tag: dict[str, dict[int, float]] = field(default_factory=dict)
    count: int = 0
    replaced: int = 0
    lost: int = 0

    def add(self, tag: str, step: int, value: float) -> None:
        if (tag not in self.by_tag and len(self.by_tag) >= MOST_TAGS) or self.count >= MOST_POINTS:
            self.lost += 1
            return
        points = self.by_tag.setdefault(tag, {})
        self.replaced += step in points
        self.count += step not in points
        points[step] = value


def is_event_file(head: bytes) -> bool:
    """Whether bytes begin as an event file does: a small frame that says its version."""
    if len(head) < FRAME_HEAD:
        return False
    (length,) = struct.unpack_from("<Q", head)
    return 0 < length < 1000 and b"brain.Event:" in head[FRAME_HEAD : FRAME_HEAD + length]


def find_event_files(folder: Path) -> list[Path]:
    """Event files of a folder and those below it, in the order of their names."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file():
                with path.open("rb") as stream:
                    if is_event_file(stream.read(1024)):
                        found.append(path)
            if len(found) > MOST_FILES:
                raise UserError(f"{folder} holds more than {MOST_FILES} event files: name the folder of one run")
    return found


def read_event_files(
    files: list[Path], folder: Path, known: Mapping[str, Meaning], found: Gathering, faults: list[str]
) -> None:
    """Gather the scalars of a run's event files.

    A folder below `folder` that is called for a part of the data (`train`, `validation`, `Loss_val`) gives its tags
    that part.

    Raises:
        UserError: `tensorboard` is not installed, or the files are of several runs.
    """
    parse = _parser()
    points = _Points()
    for path, prefix in _prefixes(files, folder):
        damaged = _read_file(path, prefix, parse, points)
        if damaged:
            faults.append(f"{path.name} is damaged or cut short: {damaged}")
    if points.replaced:
        faults.append(f"{points.replaced} points stand there twice, the later ones count")
    if points.lost:
        faults.append(f"{points.lost} points are left out: more tags or points than can be kept")
    found.take(_rows(points.by_tag, known))


def _prefixes(files: list[Path], folder: Path) -> Iterator[tuple[Path, str]]:
    runs: dict[str, list[tuple[Path, str]]] = {}
    for path in files:
        parts = path.parent.relative_to(folder).parts
        splits = [part for part in parts if set(words_of(part)) & set(SPLITS)]
        run = "/".join(part for part in parts if part not in splits and not _is_curve(part))
        runs.setdefault(run, []).append((path, splits[-1] + "/" if splits else ""))
    if len(runs) > 1 and "" in runs and len(runs) == 2 and not any(prefix for _, prefix in runs[""]):
        runs.pop("")  # a run's own folder above it holds its graph or nothing
    if len(runs) > 1:
        raise UserError(
            f"{folder} holds {len(runs)} runs ({some(sorted(run or '.' for run in runs))}): name one of them"
        )
    yield from next(iter(runs.values()))


def _is_curve(part: str) -> bool:
    """Whether a folder is one curve of `add_scalars`, such as `Loss_total`."""
    return meaning_by(part, {}).kind != "ignore"


def _parser() -> Parse:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
    except ImportError as error:
        raise UserError(
            "TensorBoard's event files are read by the package tensorboard, which is not installed: "
            "pip install 'volumen[tensorboard]'"
        ) from error
    parse: Parse = Event.FromString
    return parse


def _frames(stream: BinaryIO) -> Iterator[bytes | str]:
    """The data of small frames; a text at the end where the file is damaged, which says how."""
    size = os.fstat(stream.fileno()).st_size
    while head := stream.read(FRAME_HEAD):
        if len(head) < FRAME_HEAD:
            yield "its last record is cut short"
            return
        (length,) = struct.unpack_from("<Q", head)
        if length > MOST_FRAME_BYTES or stream.tell() + length + FRAME_CHECK > size:
            yield "a record reaches beyond its end"
            return
        if length > MOST_SCALAR_BYTES:
            stream.seek(length + FRAME_CHECK, os.SEEK_CUR)
        else:
            yield stream.read(length)
            stream.seek(FRAME_CHECK, os.SEEK_CUR)


def _read_file(path: Path, prefix: str, parse: Parse, points: _Points) -> str:
    """Add a file's scalars; what is wrong with it, or nothing."""
    unread = 0
    with path.open("rb") as stream:
        for data in _frames(stream):
            if isinstance(data, str):
                return data
            try:
                event = parse(data)
                for value in event.summary.value:
                    number = _scalar(value)
                    if number is not None:
                        points.add(prefix + value.tag[:200], int(event.step), number)
            except Exception:  # protobuf's DecodeError, of which each of its implementations has another
                unread += 1
    return f"{unread} of its records cannot be read" if unread else ""


def _scalar(value: Any) -> float | None:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return _rounded(value.simple_value)
    if kind != "tensor":
        return None
    tensor = value.tensor
    if any(each.size != 1 for each in tensor.tensor_shape.dim):
        return None
    fields = {
        _FLOAT: ("float_val", "<f"),
        _DOUBLE: ("double_val", "<d"),
        _INT32: ("int_val", "<i"),
        _INT64: ("int64_val", "<q"),
    }
    if tensor.dtype not in fields:
        return None
    name, code = fields[tensor.dtype]
    held = getattr(tensor, name)
    if len(held) == 1:
        found = float(held[0])
    elif len(tensor.tensor_content) == struct.calcsize(code):
        found = float(struct.unpack(code, tensor.tensor_content)[0])
    else:
        return None
    return _rounded(found) if tensor.dtype == _FLOAT else found


def _rounded(value: float) -> float:
    """What was written as 32 bits, as people write it: 0.1 and not 0.10000000149."""
    return float(f"{value:.7g}")


def _rows(by_tag: Mapping[str, Mapping[int, float]], known: Mapping[str, Meaning]) -> Iterator[Row]:
    """Rows in the order of their steps.

    The step is the epoch where a tag says so (`epoch_loss`), or where those of the validation, or of all that is
    known, run on by ones; a tag called `epoch` gives the epoch of each step.
    """
    meanings = {tag: _meaning(tag, known) for tag in by_tag}
    numbering = next((by_tag[tag] for tag, meaning in meanings.items() if meaning.kind == "epoch"), None)
    wanted = {tag: meaning for tag, meaning in meanings.items() if meaning.kind not in ("ignore", "epoch", "step")}
    of_epochs = {tag for tag in wanted if numbering is None and _counts_epochs(tag, by_tag[tag], wanted, by_tag)}
    at: dict[tuple[int, bool], Row] = {}
    for tag, meaning in wanted.items():
        for step, value in by_tag[tag].items():
            row = at.setdefault((step, tag in of_epochs), Row())
            row.readings.append(Reading(meaning, value / 100 if meaning.percent else value))
    epochs = sorted(numbering.items()) if numbering else []
    index = 0
    for step, is_epoch in sorted(at):
        row = at[step, is_epoch]
        if is_epoch:
            row.epoch = step
        else:
            row.step = max(0, step)
        while index + 1 < len(epochs) and epochs[index + 1][0] <= step:
            index += 1
        if epochs and math.isfinite(epochs[index][1]):
            row.epoch = epochs[index][1]
        yield row


def _meaning(tag: str, known: Mapping[str, Meaning]) -> Meaning:
    found = meaning_by(tag, known)
    last = meaning_by(tag.rpartition("/")[2], known)
    return last if last.sure or (found.kind == "ignore" and last != IGNORED) else found


def _counts_epochs(
    tag: str, points: Mapping[int, float], wanted: Mapping[str, Meaning], by_tag: Mapping[str, Mapping[int, float]]
) -> bool:
    if "epoch" in words_of(tag):
        return True
    if any("epoch" in words_of(other) for other in by_tag):
        return False
    validated = [by_tag[other] for other, meaning in wanted.items() if meaning.split == VALIDATION]
    steps = sorted({step for each in validated or by_tag.values() for step in each})
    own = sorted(points)
    by_ones = all(later - earlier == 1 for earlier, later in pairwise(steps))
    return by_ones and len(steps) > 1 and set(own) <= set(steps) | {steps[-1] + 1}
