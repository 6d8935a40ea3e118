"""The commands that read or write the small world, where each may write, and what of its results counts as a number.

All paths are relative to the world's folder. `new/` is for results of one command alone and is empty before it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch

Run = Callable[[list[str]], int]
"""`volumen.cli.main.run`: a command line without `volumen`, and its exit code."""

TINY = """base: base.yaml
name: tiny
data: {dataset: prepared, patch: [16, 16, 16], workers: 0, sampling: {patches_per_epoch: 8}}
training: {epochs: 6, swa: {start_epoch: 1}}
precision: fp32
postprocessing: {steps: [{kind: threshold, level: 0.4}]}
"""
BASE = """base: preset:default
model: {filters: 2, depth: 2}
optimiser: {learning_rate: 0.03}
"""

BUILD = (
    "phantom raw --volumes 4 --test-volumes 2 --size 32 --scrolls 2",
    "prepare raw --out prepared",
    "folds prepared --folds 2",
    "train config.yaml --out run0 --fold 0 --quiet",
    "train config.yaml --out run1 --fold 1 --quiet",
    "evaluate run0",
    "evaluate run1",
    "select run0",
    "report run0",
    "tune run0 run1 --out tuned --trials 4",
    "ensemble run0 run1 --out ensemble.volumen --work ensemble.predictions",
    "bundle run0 --out model.volumen",
    "predict run0 raw/test_images masks --probabilities",
    "predict run0 raw/train_images trained",
    "submit model.volumen raw/test_images submission.zip --work submission.masks --accept-degenerate",
    "export prepared Dataset001_Phantom",
)
"""From nothing to a world; `stopped` is trained beside them, and stopped."""
TRAIN_STOPPED = "train config.yaml --out stopped --fold 0 --quiet"


@dataclass(frozen=True)
class Command:
    """A command line and what may come of it."""

    line: str
    writes: tuple[str, ...] = ("new",)
    """Folders or files that it may change."""
    result: tuple[str, ...] = ("out",)
    """What its numbers are: `out`, `text:FILE`, `tree:FOLDER`, `masks:FOLDER`, `zip:FILE`, `weights:RUN`."""
    dear: bool = False
    """It takes about a second or more: of these, one is drawn for a damage."""


COMMANDS = {
    "prepare": Command("prepare raw --out new/prepared", result=("tree:new/prepared",)),
    "prepare again": Command("prepare raw --out prepared", ("prepared",)),
    "prepare --check": Command("prepare raw --out prepared --check", ()),
    "folds": Command("folds prepared --folds 2 --out new/folds.json", result=("out", "tree:new")),
    "audit": Command("audit config.yaml --fold 0 --only P1 --json", ()),
    "config check": Command("config check config.yaml", ()),
    "config show": Command("config show config.yaml --json", ()),
    "train --resume": Command("train stopped --resume --quiet", ("stopped",), ("weights:stopped",), dear=True),
    "train --resume finished": Command("train run0 --resume --quiet", ("run0",), ("weights:run0",)),
    "evaluate": Command("evaluate run0 --json", ("run0",), dear=True),
    "report": Command("report run0 --out new/report.html", result=("text:new/report.html",)),
    "report stopped": Command("report stopped --out new/report.html", result=("text:new/report.html",)),
    "select": Command("select run0 --out new/selection.json --json", ("new", "run0"), dear=True),
    "tune": Command("tune run0 run1 --out tuned --trials 4 --json", ("tuned",)),
    "tune further": Command("tune run0 run1 --out tuned --trials 5 --json", ("tuned",), dear=True),
    "ensemble": Command(
        "ensemble run0 run1 --out new/e.volumen --work ensemble.predictions", ("new", "ensemble.predictions"), dear=True
    ),
    "bundle": Command("bundle run0 --out new/b.volumen"),
    "bundle tuned": Command("bundle run0 --out new/b.volumen --postprocessing tuned/postprocessing.yaml"),
    "predict": Command(
        "predict run0 raw/test_images new/masks --probabilities", result=("out", "masks:new/masks"), dear=True
    ),
    "predict bundle": Command(
        "predict model.volumen raw/test_images new/masks", result=("out", "masks:new/masks"), dear=True
    ),
    "predict ensemble": Command(
        "predict ensemble.volumen raw/test_images new/masks", result=("out", "masks:new/masks"), dear=True
    ),
    "predict --resume": Command(
        "predict run0 raw/test_images masks --probabilities --resume", ("masks",), ("masks:masks",)
    ),
    "submit": Command(
        "submit model.volumen raw/test_images new/s.zip --accept-degenerate", result=("zip:new/s.zip",), dear=True
    ),
    "submit again": Command(
        "submit model.volumen raw/test_images new/s.zip --work submission.masks --accept-degenerate",
        ("new", "submission.masks"),
        ("zip:new/s.zip",),
    ),
    "score": Command("score trained raw/train_labels --train-csv raw/train.csv --json --workers 1", (), dear=True),
    "score files": Command("score scored raw/train_labels --json --workers 1", (), dear=True),
    "export": Command("export prepared new/Dataset001_Phantom", result=("tree:new",)),
    "import": Command("import Dataset001_Phantom new/imported", result=("tree:new",)),
}

FROM_PREPARED = ("folds", "audit", "train --resume", "evaluate", "select", "tune", "tune further", "ensemble", "export")
FROM_RUN = ("evaluate", "report", "select", "predict", "bundle", "train --resume finished")
READERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    # files, commands with a record that tells a change, commands that cannot know what the file was
    ("raw/test_images/*", ("prepare again", "prepare --check"), ("prepare", "predict", "submit")),
    ("raw/train_labels/*", ("prepare again", "prepare --check", "export"), ("prepare", "score")),
    ("raw/train.csv", ("prepare again", "prepare --check"), ("prepare", "score")),
    ("raw/*", ("prepare again", "prepare --check", "export"), ("prepare",)),
    (
        "prepared/*",
        (*FROM_PREPARED, "prepare again", "prepare --check"),
        (),
    ),
    ("run0/*", (*FROM_RUN, "tune", "ensemble"), ()),
    ("run1/*", ("tune", "tune further", "ensemble"), ()),
    ("stopped/*", ("train --resume", "report stopped"), ()),
    ("tuned/postprocessing.yaml", ("tune", "tune further"), ("bundle tuned",)),  # a configuration, for people to edit
    ("tuned/*", ("tune", "tune further", "bundle tuned"), ()),
    ("ensemble.predictions/*", ("ensemble",), ()),
    ("ensemble.volumen", ("predict ensemble",), ()),
    ("model.volumen", ("predict bundle", "submit", "submit again"), ()),
    ("masks/*", ("predict --resume",), ()),
    ("trained/*", (), ("score",)),
    ("submission.masks/*", ("submit again",), ()),
    ("scored/*", (), ("score files",)),
    ("Dataset*", (), ("import",)),
    ("config.yaml", (), ("config check", "config show", "audit")),
    ("base.yaml", (), ("config check", "config show", "audit")),
)


def readers_of(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the commands that may read a file: those that can tell a change, and those that cannot."""
    for pattern, knowing, unknowing in READERS:
        if fnmatch(path, pattern):
            return knowing, unknowing
    return (), ()


def kind_of(path: str) -> str:
    """The kind of a file: its place, with the numbers of cases, runs and steps left out."""
    return re.sub(r"\d+", "N", re.sub(r"^run\d", "run", path))
