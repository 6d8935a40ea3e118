"""Tables of ids in whatever clothes a spreadsheet gives them, and the one way in which ids are joined."""

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.small_datasets import write_dataset

from volumen.cli.main import run as volumen
from volumen.data.layout import read_layout
from volumen.data.tables import join_problems, read_scrolls, unjoined
from volumen.errors import UserError
from volumen.submission.images import find_test_images

letters = st.text("abcXYZ019_ü", min_size=1, max_size=6)


@given(st.data())
def test_a_table_reads_the_same_in_all_its_clothes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    scrolls = data.draw(st.dictionaries(letters, letters, min_size=1, max_size=5))
    names = data.draw(st.permutations(["id", "scroll_id", "comment"]))
    clothes = st.sampled_from(
        [str, str.upper, str.title, lambda name: f" {name} ", lambda name: name.replace("_", " ")]
    )
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=data.draw(st.sampled_from(",;\t")),
        quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    spaces = data.draw(st.sampled_from(["", " ", "  "]))
    writer.writerow([data.draw(clothes)(name) for name in names])
    for case_id, scroll in scrolls.items():
        row = {"id": case_id + spaces, "scroll_id": scroll + spaces, "comment": "one, two; three"}
        writer.writerow([row[name] for name in names])
        if data.draw(st.booleans()):
            writer.writerow(["", "", ""])
    path = tmp_path_factory.mktemp("tables") / "train.csv"
    path.write_bytes(text.getvalue().encode(data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))))
    assert read_scrolls(path) == scrolls


MANGLED = {
    "zeros lost": lambda name: name.lstrip("0"),
    "a number": lambda name: f"{int(name)}.0",
    "a file": lambda name: f"{name}.tif",
    "others": lambda name: f"x{name}",
}


@given(st.sets(st.integers(1, 9999), min_size=1, max_size=9), st.sampled_from(sorted(MANGLED)), st.data())
def test_a_join_that_fails_shows_both_sides(numbers: set[int], way: str, data: st.DataObject) -> None:
    ids = [f"{number:05}" for number in sorted(numbers)]
    mangled = data.draw(st.sets(st.sampled_from(ids), min_size=1 if way != "others" else len(ids)))
    listed = [MANGLED[way](name) if name in mangled else name for name in ids]
    assert unjoined(Path("t.csv"), ids, ids) == "" == unjoined(Path("t.csv"), [*ids, "more"], ids)
    problem = unjoined(Path("t.csv"), listed, ids)
    assert f"{len(mangled)} of {len(ids)} files have no row in t.csv" in problem
    assert min(mangled) in problem
    assert ("save the ids as text" in problem) == (way != "others")
    assert join_problems(Path("t.csv"), listed, ids, "images") == [problem]


def test_an_umlaut_is_the_same_letter_in_a_name_of_a_mac_and_in_a_table(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, {unicodedata.normalize("NFD", "hülle"): "s"})
    (data / "train.csv").write_text("id,scroll_id\nh\u00fclle,s\n", encoding="utf-8")
    layout = read_layout(data)
    assert layout.problems == ()
    assert [source.id for source in layout.sources] == ["h\u00fclle"]


def test_a_row_too_few_is_no_fault_of_a_table_of_scrolls_but_of_a_data_set() -> None:
    assert unjoined(Path("t.csv"), ["a"], ["a", "b"]) == ""
    assert len(join_problems(Path("t.csv"), ["a", "c"], ["a", "b"], "images")) == 2


@pytest.mark.parametrize("table", ["kept.csv", "semicolons.csv"])
def test_scores_are_joined_with_scrolls(cases: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(cases / "ids" / part) for part in ("predictions", "labels")]
    assert volumen(["score", *folders, "--train-csv", str(cases / "ids" / table), "--quick"]) == 0
    out = capsys.readouterr().out
    assert out.count("mean of 1") == 2
    assert "unknown" not in out


def test_scores_are_not_joined_with_a_table_that_lost_its_zeros(cases: Path, capsys) -> None:
    folders = [str(cases / "ids" / part) for part in ("predictions", "labels")]
    assert volumen(["score", *folders, "--train-csv", str(cases / "ids" / "lost_zeros.csv"), "--quick"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in ("the files are 00007, 00012", "the rows 12, 7", "save the ids as text"):
        assert part in error


def test_prepare_and_submit_join_alike(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, {"007": "s", "012": "t"}, tests={"003": "s"})
    assert not read_layout(data).problems
    assert [path.name for path in find_test_images(data)] == ["003.tif"]
    for name, text in (("train.csv", "id;scroll_id\r\n7;s\r\n12;t\r\n"), ("test.csv", "scroll_id\tID\ns\t3\n")):
        (data / name).write_text(text)
    told = "\n".join(read_layout(data).problems)
    assert "the files are 007, 012, the rows 12, 7; 007 is most likely its 7" in told
    assert "the files are 003, the rows 3" in told
    with pytest.raises(UserError, match="the files are 003, the rows 3; 003 is most likely its 3"):
        find_test_images(data)
