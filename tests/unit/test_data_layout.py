"""The names in a data set's folders and tables: names or told, all at once; never a path, never two for one."""

import random
from pathlib import Path

import pytest
from tests.hostile import damaged
from tests.small_datasets import write_dataset

from volumen.cli.parse import box, numbers, three_numbers, three_whole_numbers
from volumen.data.layout import read_layout
from volumen.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), {"a": "one", "b": "two"}, tests={"t": "one"})


@pytest.fixture
def dataset(whole: Path, tmp_path: Path) -> Path:
    """The same files, linked, to be changed."""
    for path in whole.rglob("*.*"):
        target = tmp_path / path.relative_to(whole)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


def test_a_whole_data_set_has_no_problems(dataset: Path) -> None:
    layout = read_layout(dataset)
    assert layout.problems == ()
    assert [source.id for source in layout.sources] == ["a", "b", "t"]


def test_every_name_that_is_none_is_told_at_once(dataset: Path) -> None:
    (dataset / "train_images" / "c\nd.tif").touch()
    (dataset / "train_labels" / " e.tif").touch()
    (dataset / "test_images" / ("f" * 220 + ".tif")).touch()
    with (dataset / "train.csv").open("a") as table:
        table.write('../g,one\n/h,one\n"i\nj",one\n.k,one\na,one,two\nb,"x\ny"\n')
    problems = read_layout(dataset).problems
    told = "\n".join(problems)
    for part in ("'c\\nd.tif'", "' e.tif'", "220 bytes long", "'../g' is a path", "'/h' is a path", "'i\\nj'", "'.k'"):
        assert part in told
    assert "has 3 cells" in told
    assert "is no short printable text" in told
    assert all(problem.isprintable() for problem in problems)


@pytest.mark.parametrize("table", ["train.csv", "test.csv"])
def test_a_damaged_table_is_problems_or_a_table(dataset: Path, table: str) -> None:
    content = (dataset / table).read_bytes()
    draw, found = random.Random(table), 0
    for _ in range(400):
        (dataset / table).write_bytes(damaged(content, draw))
        layout = read_layout(dataset)
        found += bool(layout.problems)
        assert all(problem.isprintable() for problem in layout.problems)
        assert [source.id for source in layout.sources] == ["a", "b", "t"]
    assert found > 100


def test_a_table_has_a_bounded_size(dataset: Path) -> None:
    with (dataset / "train.csv").open("ab") as table:
        table.truncate(2**30)
    assert any("is larger than 67108864 bytes" in problem for problem in read_layout(dataset).problems)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e400", "9" * 400, "x", "1,,2", "\0", ":", "1:2", "²,2,2"])
@pytest.mark.parametrize("parse", [three_numbers, three_whole_numbers, numbers, box])
def test_options_of_several_numbers_are_numbers_or_refused(parse, text: str) -> None:
    with pytest.raises(UserError, match="--option must be") as caught:
        parse(text, "--option")
    assert len(str(caught.value)) < 200


def test_numbers_and_boxes_that_are_read() -> None:
    assert numbers("-1,2e3", "--option") == [-1, 2000]
    assert three_numbers("1x.5x2", "--option") == (1, 0.5, 2)
    assert box("0:64,-10:90,:", "--region") == (slice(0, 64), slice(-10, 90), slice(None, None))
    for text in ("1:2,3", "1:2,3:4", "1:2,3:4,5:" + "9" * 30, "1:2:3,4:5,6:7", "1:2,3:4,5:6,7:8"):
        with pytest.raises(UserError, match="must be a box"):
            box(text, "--region")
