"""Texts that people or other programs wrote - configurations, `dataset.yaml`, nnU-Net's `dataset.json` - after any
mishap: read, or refused by an error that names the place; never a traceback, never for long.
"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hostile import FRAGMENTS, many

from volumen.config.dump import dump_config
from volumen.config.inheritance import MOST_FILES, PRESETS
from volumen.config.load import load_config
from volumen.config.problems import Problem
from volumen.config.source import parse, read_tree
from volumen.data import nnunet
from volumen.data.meanings import read_meanings
from volumen.errors import UserError

DATASET = ["data.dataset=x"]
CONFIGS = [path.read_bytes() for path in sorted(PRESETS.glob("*.yaml"))]
CONFIGS.append(dump_config(load_config("preset:plan", DATASET).config).encode())
MEANINGS = [
    b"labels: {0: background, 1: surface, 2: ignore}\nspacing_um: [7.91, 7.91, 7.91]\ndescription: text\n",
    b"labels:\n  0: background\n  1: surface\n  2: ignore\nspacing_um: 7.91\n",
]
LABELS = {"background": 0, "surface": 1, "ignore": 2}
INDEX = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 3, "file_ending": ".tif"}
INDICES = [json.dumps(INDEX, indent=indent).encode() for indent in (None, 1)]


def outcomes(contents: list[bytes], path: Path, read: Callable[[Path], object], seed: int, count: int) -> int:
    """How many of the damaged contents are refused; anything but a `UserError` in printable lines is raised."""
    refused = 0
    for content in many(contents, seed, count):
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            refused += 1
            told = str(error)
        else:
            told = ""
        assert all(line.isprintable() and len(line) < 2000 for line in told.split("\n"))
    return refused


def test_damaged_configurations(tmp_path: Path) -> None:
    count = 240
    refused = outcomes(CONFIGS, tmp_path / "c.yaml", lambda path: load_config(path, DATASET), 11, count)
    assert count / 2 < refused < count


def test_damaged_label_meanings(tmp_path: Path) -> None:
    count = 400
    assert count / 2 < outcomes(MEANINGS, tmp_path / "dataset.yaml", read_meanings, 12, count) < count


def test_damaged_indices_of_nnunet(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        nnunet._meanings(path.parent, nnunet._read_index(path.parent).labels, ())

    count = 400
    assert count / 2 < outcomes(INDICES, tmp_path / "dataset.json", read, 13, count) < count


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60)
    | st.text(":-[]{},&*!|>'\"%@` \n\tab01.e#?~<=_+x\\", max_size=60)
    | st.lists(st.sampled_from([part.decode("utf-8", "replace") for part in FRAGMENTS] + ["\n", " ", "a: "])).map(
        "".join
    )
)
def test_any_text_is_a_tree_or_a_problem(text: str) -> None:
    problems: list[Problem] = []
    tree = parse(text, str, problems)
    assert tree is not None or problems
    assert all(str(problem).isprintable() for problem in problems)
    if not problems:
        json.dumps(tree.plain(), ensure_ascii=False).encode()  # every text in it can be written to a file


LAUGHS = "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 2000 + "]" * 2000, "deeper than 64 levels"),
        ("\n".join(" " * level + "a:" for level in range(300)), "deeper than 64 levels"),
        ("[" * 2**20, "deeper than 64 levels"),
        ("a0: &a0 [x, x, x, x, x, x, x, x]\n" + LAUGHS, "more than 20000 values with what its aliases stand for"),
        ("a: [" + "x," * 30_000 + "]", "more than 20000 values"),
        ("a: " + "x" * 2**20, "at most 1048576"),
        ("a: " + "9" * 5000, "beyond|is not a int"),
        ("a: 18446744073709551616", "beyond any number"),
        ("a: 0x" + "f" * 500, "beyond any number"),
        ("a: 1e999", "beyond any number"),
        ("a: -1e-999", "beyond any number"),
        ('a: "x\\0y"', "holds a zero byte"),
        ('a: "\\ud800"', "half a character"),
        ('"\\ud800": a', "half a character"),
        ("x" * 900 + ": 1", "is no key"),
        ("a: 1\na: 2", "written twice"),
        ("a: !!python/name:os.system x", "tag"),
        ("a: \x00", "not valid YAML"),
        ("%YAML 9.9.9\n---\na: 1", "not valid YAML"),
    ],
)
def test_bombs_are_refused_at_once_and_in_one_line(text: str, message: str) -> None:
    began = time.monotonic()
    problems: list[Problem] = []
    parse(text, lambda line: f"config.yaml:{line}", problems)
    assert time.monotonic() - began < 20  # on a machine that does other things too
    told = str(problems[0])
    assert re.search(message, told)
    assert told.startswith("config.yaml:")
    assert "\n" not in told
    assert len(told) < 600


def test_the_largest_numbers_are_read() -> None:
    problems: list[Problem] = []
    tree = parse(f"[{2**64 - 1}, -{2**64 - 1}, 1e308, 5e-324, 0e-999, -0.0, .inf, -.INF]", str, problems)
    assert not problems
    assert tree is not None
    assert tree.plain()[:5] == [2**64 - 1, 1 - 2**64, 1e308, 5e-324, 0.0]


def test_a_file_that_is_no_text_of_ours(tmp_path: Path) -> None:
    for content, message in ((b"\xff\xfe", "not UTF-8"), (b"a" * (2**20 + 1), "longer than 1048576 bytes")):
        (tmp_path / "x.yaml").write_bytes(content)
        problems: list[Problem] = []
        assert read_tree(tmp_path / "x.yaml", "x.yaml", problems) is None
        assert problems[0].blocking
        assert message in str(problems[0])
    problems = []
    assert read_tree(tmp_path, "folder", problems) is None
    assert "cannot be read: Is a directory" in str(problems[0])


@pytest.mark.parametrize(("files", "reads"), [(MOST_FILES, True), (MOST_FILES + 1, False), (1200, False)])
def test_a_chain_of_files_has_an_end(tmp_path: Path, files: int, reads: bool) -> None:
    for number in range(files - 1):
        (tmp_path / f"{number}.yaml").write_text(f"base: {number + 1}.yaml\n")
    (tmp_path / f"{files - 1}.yaml").write_bytes((PRESETS / "dice_only.yaml").read_bytes().replace(b"base:", b"#"))
    if reads:
        assert len(load_config(tmp_path / "0.yaml", DATASET).sources) == files
    else:
        with pytest.raises(UserError, match=f"more than {MOST_FILES} files lie under this configuration"):
            load_config(tmp_path / "0.yaml", DATASET)


def test_a_damaged_base_is_read_once_however_often_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "c.yaml").write_text("base: [" + "bad.yaml, " * 5000 + "]\n")
    with pytest.raises(UserError, match="has 1 problem"):
        load_config(tmp_path / "c.yaml", DATASET)


@pytest.mark.parametrize(
    "override",
    [
        "a." * 3000 + "b=1",
        "data.patch." + "9" * 5000 + "=1",
        "data.patch.²=1",
        "seed=" + "[" * 2000,
        "seed=" + "9" * 5000,
        "seed=1e999",
        "\ud800=1",
        "data.dataset=\ud800",
        "data.dataset=a\0b",
        "loss.terms.focal=&a [*a]",
        "experiment.criteria.0.0.0.0=1",
        "name=" + "x" * 100_000,
        "x" * 100_000 + "=1",
    ],
)
def test_hostile_overrides_are_one_problem(override: str) -> None:
    with pytest.raises(UserError, match=r"has [12] problem") as caught:
        load_config("preset:dice_only", [*DATASET, override])
    assert all(line.isprintable() and len(line) < 1100 for line in str(caught.value).split("\n"))


@pytest.mark.parametrize(
    "source", ["x" * 5000, "a\0b", "~nobody-of-this-name/x", "/dev/zero", "\ud800", "preset:\ud800"]
)
def test_a_source_that_is_no_file(source: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no (file|preset)"):
        load_config(source)
    (tmp_path / "c.yaml").write_text("base: " + json.dumps(source) + "\n")
    with pytest.raises(UserError, match=r"c\.yaml"):
        load_config(tmp_path / "c.yaml", DATASET)


def test_thousands_of_mistakes_are_told_shortly(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("".join(f"{'.'.join(['abcdefgh'] * 9)}{number}: 1\n" for number in range(4000)))
    began = time.monotonic()
    with pytest.raises(UserError, match="more; correct these first") as caught:
        load_config(tmp_path / "c.yaml", DATASET)
    assert str(caught.value).count("\n") < 60
    assert time.monotonic() - began < 20
