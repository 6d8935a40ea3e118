"""`dataset.yaml` is read by the configuration's loader: every mistake at once, each with its line."""

from pathlib import Path

import pytest

from volumen.config.problems import ConfigError
from volumen.data.labels import LabelMeanings
from volumen.data.meanings import proposal_text, read_meanings

GOOD = "labels: {0: background, 1: surface}\n"


def problems(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_meanings(tmp_path / "dataset.yaml")
    return [str(problem).rpartition(f"{tmp_path.resolve()}/")[2] for problem in caught.value.problems]


def test_all_that_it_can_say_is_read(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(
        "labels: {0: background, 1-40: surface, others: ignore}\nspacing_um: 7\nempty: [3, 0, 3]\ndescription: x\n"
    )
    assert read_meanings(tmp_path / "dataset.yaml") == LabelMeanings(
        {0: 0}, (7.0, 7.0, 7.0), "x", (0, 3), {"1-40": 1, "others": 2}
    )


def test_every_mistake_is_told_at_its_line(tmp_path: Path) -> None:
    text = "labels:\n  0: backgrund\n  0x1: surface\n  9-3: ignore\nspacing_um: [1, 2]\nspacing: 3\nempty: black\n"
    found = problems(tmp_path, text)
    assert [line.split(": ")[:2] for line in found] == [
        ["dataset.yaml:2", "labels.0"],
        ["dataset.yaml:3", "labels.0x1"],
        ["dataset.yaml:4", "labels.9-3"],
        ["dataset.yaml:5", "spacing_um"],
        ["dataset.yaml:6", "spacing"],
        ["dataset.yaml:7", "empty"],
    ]
    assert "did you mean background?" in found[0]
    assert "did you mean spacing_um?" in found[4]


@pytest.mark.parametrize("text", ["", "labels:\n", "labels: {}\n", "labels: {1: surface}\n", "description: x\n"])
def test_background_and_surface_have_to_be_declared(tmp_path: Path, text: str) -> None:
    assert any("labels" in line for line in problems(tmp_path, text))


def test_it_stands_for_itself(tmp_path: Path) -> None:
    assert "unknown key 'base'" in problems(tmp_path, GOOD + "base: other.yaml\n")[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.yaml: cannot be read: No such file"):
        read_meanings(tmp_path / "dataset.yaml")


@pytest.mark.parametrize("values", [{0: 90, 1: 5, 2: 5}, {0: 90, 255: 10}])
def test_what_is_proposed_can_be_read(tmp_path: Path, values: dict[int, int]) -> None:
    (tmp_path / "dataset.yaml").write_text(proposal_text(values))
    assert set(read_meanings(tmp_path / "dataset.yaml").codes) == set(values)
