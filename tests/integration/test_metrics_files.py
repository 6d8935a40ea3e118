"""`volumen score` on files of every kind: matched by name, means per scroll, and errors that lose nothing."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from volumen.cli.main import run as volumen
from volumen.data.arrays import read_array
from volumen.data.listing import case_of
from volumen.data.volumes import VolumeError
from volumen.errors import UserError
from volumen.metrics import leaderboard, leaderboard_without_matching_tunnels
from volumen.metrics.files import Pair, score_files


def sheet(seed: int) -> np.ndarray:
    volume = np.zeros((12, 14, 16), np.uint8)
    volume[4 + seed % 3, 1:-1, 1:-1] = 1
    volume[9, :, 2 : 4 + seed] = 1
    return volume


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four cases in six formats: truth from seed k, prediction from seed k + 1."""
    predicted, true = tmp_path / "predicted", tmp_path / "true"
    predicted.mkdir()
    true.mkdir()
    tifffile.imwrite(predicted / "a.tif", 255 * sheet(1), compression="zlib")
    np.save(true / "a.npy", sheet(0))
    np.save(predicted / "b.npy", sheet(2).astype(bool))
    np.savez_compressed(true / "b.npz", labels=sheet(1))
    zarr.save_array(str(predicted / "c.zarr"), sheet(3))
    tifffile.imwrite(true / "c.tiff", sheet(2))
    image = zarr.open_group(str(predicted / "d.ome.zarr"), mode="w")
    image.create_array("0", data=sheet(4)[None, None])
    image.create_array("1", data=sheet(4)[None, None, ::2, ::2, ::2])
    image.attrs["ome"] = {"version": "0.5", "multiscales": [{"datasets": [{"path": "0"}, {"path": "1"}]}]}
    np.save(true / "d.npy", sheet(3))
    (predicted / "prediction.json").write_text("{}")
    return predicted, true


def expected(seed: int) -> dict[str, object]:
    return leaderboard(sheet(seed + 1), sheet(seed)).to_dict()


def test_folders_are_matched_by_name_whatever_the_format(folders, tmp_path, capsys) -> None:
    (tmp_path / "train.csv").write_text("id,scroll_id\na,s1\nb,s1\nc,s2\n")
    table = tmp_path / "scores.csv"
    command = ["score", *map(str, folders), "--train-csv", str(tmp_path / "train.csv"), "--workers", "2"]
    assert volumen([*command, "--json", "--csv", str(table)]) == 0
    printed = json.loads(capsys.readouterr().out)
    cases = {case["id"]: case for case in printed["cases"]}
    assert list(cases) == ["a", "b", "c", "d"]
    for seed, case in enumerate(cases.values()):
        assert {name: case[name] for name in expected(seed)} == expected(seed)
    assert [case["scroll_id"] for case in cases.values()] == ["s1", "s1", "s2", "unknown"]
    assert printed["mean"]["score"] == pytest.approx(np.mean([expected(seed)["score"] for seed in range(4)]))
    first_scroll = np.mean([expected(seed)["score"] for seed in range(2)])
    assert printed["by_scroll"]["s1"]["score"] == pytest.approx(first_scroll)
    assert printed["by_scroll"]["s1"]["cases"] == 2
    assert printed["errors"] == []
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["score"]) for row in rows] == [case["score"] for case in cases.values()]
    assert int(rows[0]["true_0"]) == cases["a"]["topo"]["true"]["0"]
    assert volumen([*command, "--csv", str(table)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_two_files_and_a_table_for_people(folders, capsys) -> None:
    predicted, true = folders
    assert volumen(["score", str(predicted / "a.tif"), str(true / "a.npy"), "--quick"]) == 0
    text = capsys.readouterr().out
    assert "upper bound" in text
    assert f"{leaderboard_without_matching_tunnels(sheet(1), sheet(0)).score:.4f}" in text
    options = ["--tolerance", "1", "--spacing", "1,2,1", "--splits", "1", "--voi-alpha", "1", "--ignore-label", "9"]
    assert volumen(["score", str(predicted / "a.tif"), str(true / "a.npy"), "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)["cases"][0]["score"]
    general = leaderboard(
        sheet(1), sheet(0), tolerance=1, spacing=(1, 2, 1), splits=(1, 1, 1), voi_alpha=1, ignore_label=9
    )
    assert found == general.score != expected(0)["score"]


def test_cases_that_cannot_be_scored_are_named_and_the_others_are_scored(folders, capsys) -> None:
    predicted, true = folders
    np.save(predicted / "extra.npy", sheet(0))
    np.save(true / "missing.npy", sheet(0))
    np.save(predicted / "b.npy", sheet(2)[1:])
    (predicted / "c.zarr" / "zarr.json").write_text("{")
    (true / "d.npy").write_bytes((true / "d.npy").read_bytes()[:-9])
    assert volumen(["score", str(predicted), str(true)]) == 2
    text = capsys.readouterr()
    assert "1 of 6 cases have a score" in text.out
    assert f"{expected(0)['score']:.4f}" in text.out
    errors = {line.split(":")[1].removeprefix(" case "): line for line in text.err.splitlines()}
    assert sorted(errors) == ["b", "c", "d", "extra", "missing"]
    assert "no prediction for" in errors["missing"]
    assert "no truth for" in errors["extra"]
    assert "(11, 14, 16)" in errors["b"]
    assert "c.zarr is damaged" in errors["c"]
    assert "d.npy is damaged" in errors["d"]


class DeadlyPath(type(Path())):
    """A file whose reading kills the process, as a decoder with a fault or the system out of memory does."""

    def exists(self, **_: object) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return False


def test_a_case_that_kills_its_process_loses_none_of_the_others(folders) -> None:
    predicted, true = folders
    pairs = [
        Pair("a", "s", predicted / "a.tif", true / "a.npy"),
        Pair("dead", "s", DeadlyPath(predicted / "b.npy"), true / "b.npz"),
        Pair("d", "s", predicted / "d.ome.zarr", true / "d.npy"),
    ]
    scores = score_files(pairs, {"threads": 1}, workers=1)
    assert [case.id for case in scores.cases] == ["a", "d"]
    (failure,) = scores.failures
    assert (failure.id, failure.is_user_error) == ("dead", False)
    assert "died with exit code" in failure.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predicted", "nowhere"], "does not exist: give two files or two folders"),
        (["predicted", "true/a.npy"], "is a folder and .* is a file"),
        (["predicted", "true", "--train-csv", "nothing.csv"], "nothing.csv cannot be read"),
        (["predicted", "true", "--spacing", "1,2"], "--spacing must be three numbers"),
        (["predicted", "true", "--tolerance", "-1"], "tolerance must be a distance"),
        (["predicted", "empty"], "holds no volume"),
        (["predicted", "others"], "no case in common"),
    ],
)
def test_requests_that_make_no_sense_are_refused(folders, tmp_path, capsys, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    np.save(tmp_path / "others" / "z.npy", sheet(0))
    assert volumen(["score", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_arrays_are_named_where_a_file_holds_several(tmp_path) -> None:
    path = tmp_path / "both.npz"
    np.savez(path, pred=sheet(1), gt=sheet(0))
    with pytest.raises(VolumeError, match="several arrays: name one of gt, pred"):
        read_array(path)
    with pytest.raises(VolumeError, match="no array 'truth': name one of gt, pred"):
        read_array(path, "truth")
    np.testing.assert_array_equal(read_array(path, "pred"), sheet(1))
    assert volumen(["score", str(path), str(path), "--prediction-array", "pred", "--truth-array", "gt"]) == 0
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("deep/0", data=sheet(2))
    with pytest.raises(VolumeError, match="is a group"):
        read_array(tmp_path / "g.zarr", "deep")
    np.testing.assert_array_equal(read_array(tmp_path / "g.zarr", "deep/0"), sheet(2))
    with pytest.raises(VolumeError, match="no known kind"):
        read_array(Path(__file__))
    assert case_of(Path("x/7.5_a.ome.tif")) == "7.5_a"


def test_objects_in_files_are_never_unpickled(tmp_path) -> None:
    np.save(tmp_path / "bad.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(VolumeError, match=r"holds object .*, expected numbers"):
        read_array(tmp_path / "bad.npy")


def test_the_command_does_without_pytorch(folders) -> None:
    predicted, true = folders
    code = (
        "import sys; from volumen.cli.main import run;"
        f"assert run(['score', {str(predicted / 'a.tif')!r}, {str(true / 'a.npy')!r}]) == 0;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_of_the_table_is_a_formula_and_no_message_breaks_a_row(tmp_path, start, capsys) -> None:
    for part in ("predicted", "true"):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / f"{start}cmd.npy", sheet(0))
        np.save(tmp_path / part / "other.npy", sheet(1))
    (tmp_path / "predicted" / f"{start}bad.npy").write_bytes(b"\x93NUMPY\n\r\n")
    np.save(tmp_path / "true" / f"{start}bad.npy", sheet(0))
    rows = f"id,scroll_id\n{start}cmd,{start}2+3\n{start}bad,s\nother,s\n"
    (tmp_path / "train.csv").write_text(rows)
    folders = [str(tmp_path / part) for part in ("predicted", "true")]
    table = tmp_path / "table.csv"
    command = ["score", *folders, "--csv", str(table), "--train-csv", str(tmp_path / "train.csv"), "--quick"]
    assert volumen(command) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    lines = table.read_text().splitlines()
    assert len(lines) == 4
    cells = [cell for row in csv.reader(lines) for cell in row[:2] + row[-1:]]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert f"'{start}cmd" in cells
    assert f"'{start}2+3" in cells


def test_where_the_table_goes_is_tried_before_anything_is_scored(folders, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("volumen.metrics.files.score_files", lambda *_, **__: pytest.fail("scored"))
    command = ["score", *map(str, folders), "--csv"]
    for place in (tmp_path / "file" / "t.csv", tmp_path / f"{'x' * 300}.csv"):
        assert volumen([*command, str(place)]) == 2
        assert "cannot be written to" in capsys.readouterr().err


def test_what_is_no_file_is_not_waited_for(folders, capsys) -> None:
    predicted, true = folders
    (predicted / "a.tif").unlink()
    os.mkfifo(predicted / "a.tif")
    (true / "b.npz").unlink()
    os.mkfifo(true / "b.npz")
    assert volumen(["score", str(predicted), str(true), "--quick"]) == 2
    error = capsys.readouterr().err
    assert error.count("is neither a file nor a folder") == 2


@pytest.mark.parametrize("part", ["zarr.json", "c/0/0/0"])
@pytest.mark.parametrize("shards", [None, (32, 32, 32)])
def test_a_pipe_inside_of_a_zarr_store_is_not_waited_for(tmp_path, part, shards) -> None:
    store = tmp_path / "a.zarr"
    zarr.create_array(store, shape=(32, 32, 32), chunks=(16, 16, 16), shards=shards, dtype="u1")[:] = 1
    (store / part).unlink()
    os.mkfifo(store / part)
    with pytest.raises(UserError, match=f"{part} cannot be read"):
        read_array(store, missing_is_empty=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spacing", "9" * 400], "--spacing must be numbers up to 1e+09"),
        (["--splits", "9" * 400], "--splits must be numbers up to 1e+09"),
        (["--splits", "1000000"], "--splits must be at most 100"),
        (["--tolerance", "1e308"], "should be less than or equal"),
        (["--voi-alpha", "inf"], "should be less than or equal"),
        (["--ignore-label", "9" * 30], "should be less than or equal"),
    ],
)
def test_numbers_that_nothing_can_be_done_with(folders, capsys, options, message) -> None:
    assert volumen(["score", *map(str, folders), *options]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_table_of_scrolls_says_one_thing_of_a_case(folders, tmp_path, capsys) -> None:
    for text, message in (
        ("id,scroll_id\na,s\na,t\n", "id a stands in 2 rows"),
        ("id,id,scroll_id\na,b,s\n", "each once"),
        ("id,scroll_id\na,s,t\n", "has 3 cells"),
        ("id,scroll_id\n../a,s\n", "'../a' is a path"),
        ('id,scroll_id\n"a\nb",s\n', "cannot be printed"),
        ("id,scroll_id\na\x00,s\n", "cannot be read|cannot be printed"),
    ):
        (tmp_path / "t.csv").write_text(text)
        assert volumen(["score", *map(str, folders), "--train-csv", str(tmp_path / "t.csv")]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error)
        assert error.count("\n") == 1
