"""Folds on hand-made data sets: what is chosen is stated, what cannot be is refused."""

import json
from pathlib import Path

import pytest

from small_datasets import SHAPE, command, prepared_dataset
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import load_folds, make_folds, save_folds
from volumen.errors import UserError

CASES = {"11": "a", "12": "a", "13": "a", "14": "b", "15": "b", "16": "c"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_dataset(tmp_path_factory.mktemp("folds"), CASES)


def test_scrolls_stay_together_and_the_smaller_count_is_stated(prepared: PreparedDataset, tmp_path: Path) -> None:
    result = command("folds", prepared.root, "--out", tmp_path / "folds.json")
    assert result.code == 0
    assert "by scroll: the labelled cases come from 3 scrolls" in result.out
    assert "3 folds instead of 5: there are only 3 scrolls" in result.out
    folds = load_folds(tmp_path / "folds.json", prepared)
    for fold in folds.folds:
        assert not {CASES[case] for case in fold.train} & {CASES[case] for case in fold.validation}


def test_grouped_and_plain_folds_live_side_by_side(prepared: PreparedDataset, tmp_path: Path) -> None:
    by_volume = tmp_path / "folds-by-volume.json"
    assert command("folds", prepared.root).code == 0
    assert command("folds", prepared.root, "--by", "volume", "--out", by_volume).code == 0
    assert load_folds(prepared.root / "folds.json", prepared).by == "scroll"
    plain = load_folds(by_volume, prepared)
    assert plain.by == "volume"
    assert sorted(len(fold.validation) for fold in plain.folds) == [1, 1, 1, 1, 2]


def test_what_was_asked_for_and_cannot_be_is_refused(prepared: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 folds by scroll need 5 scrolls, there are 3: use --folds 3 or --by volume"):
        make_folds(prepared, 5, "scroll")
    with pytest.raises(UserError, match="7 folds by volume need 7 volumes, there are 6: use --folds 6"):
        make_folds(prepared, 7, "volume")
    single = prepared_dataset(tmp_path, {"11": "a", "12": "a"})
    with pytest.raises(UserError, match=r"folds by scroll need at least 2 scrolls, .* has 1: use --by volume"):
        make_folds(single, None, "scroll")


def test_a_fold_that_does_not_exist_is_named(prepared: PreparedDataset, tmp_path: Path) -> None:
    folds, _ = make_folds(prepared, 5, "volume")
    save_folds(folds, tmp_path / "folds.json")
    message = r"^fold 5 does not exist in folds\.json \(it has 0 to 4\): use --fold 0\.\.4$"
    with pytest.raises(UserError, match=message):
        load_folds(tmp_path / "folds.json", prepared).fold(5)
    with pytest.raises(UserError, match=r"fold -1 does not exist"):
        folds.fold(-1)


def test_test_images_are_in_no_fold(tmp_path: Path) -> None:
    from small_datasets import write_dataset
    from volumen.data.prepare import prepare

    source = write_dataset(tmp_path / "source", {"11": "a", "12": "b"}, tests={"21": "a"})
    folds, _ = make_folds(prepare(source, tmp_path / "prepared"))
    assert {case for fold in folds.folds for case in (*fold.train, *fold.validation)} == {"11", "12"}


def test_folds_are_balanced_by_surface_and_size(tmp_path: Path) -> None:
    """One scroll of four volumes against four of one: dealt to two folds, each gets half."""
    cases = {"11": "a", "12": "a", "13": "a", "14": "a", "21": "b", "22": "c", "23": "d", "24": "e"}
    folds, _ = make_folds(prepared_dataset(tmp_path, cases, shape=lambda _: SHAPE), 2, "scroll")
    assert sorted(sorted(fold.validation) for fold in folds.folds) == [
        ["11", "12", "13", "14"],
        ["21", "22", "23", "24"],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda record: record["folds"][0]["train"].append(record["folds"][0]["validation"][0]),
            "trains and validates on",
        ),
        (lambda record: record["folds"][0]["train"].pop(), "leaves out"),
        (lambda record: record["folds"][0]["train"].append("99"), r"names \['99'\] that do not exist"),
        (lambda record: record["folds"].pop(), "never validated"),
        (lambda record: record["folds"].append(record["folds"][0]), "is validated in folds 0 and"),
        (lambda record: record.update(dataset="0" * 64), "divides another data set"),
        (lambda record: record.update(version=2), "version: Input should be 1, got"),
        (lambda record: record.pop("folds"), "is damaged"),
    ],
)
def test_a_file_that_does_not_divide_the_data_set_is_refused(
    prepared: PreparedDataset, tmp_path: Path, change, message: str
) -> None:
    folds, _ = make_folds(prepared, 3, "volume")
    record = folds.to_json() | {"folds": [{k: list(v) for k, v in fold.__dict__.items()} for fold in folds.folds]}
    change(record)
    (tmp_path / "folds.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=message):
        load_folds(tmp_path / "folds.json", prepared)


def test_a_missing_file_says_how_to_make_it(prepared: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: run `volumen folds"):
        load_folds(tmp_path / "folds.json", prepared)
