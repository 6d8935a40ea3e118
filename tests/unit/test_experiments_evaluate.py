"""Evaluating a run: which volumes, which weights, what is written and what is said."""

import json
import math
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from volumen.config.load import load_config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import load_folds, make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.errors import UserError
from volumen.experiments import evaluate
from volumen.experiments.evaluate import evaluate_run
from volumen.experiments.evaluation_file import load_evaluation, read_pictures
from volumen.inference.recipe import Recipe
from volumen.runs.folder import RunFolder, run_owner
from volumen.runs.run import Run, Trained
from volumen.runs.saved import TrainedOn
from volumen.system.records import write_record

IDS = ("11", "12", "21", "22")


class Bright(nn.Module):
    """Surface where the grey value is above the mean."""

    divisor = (8, 8, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 4 * images


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Four volumes of two scrolls, each one bright plate in the dark; the last quarter is not labelled."""
    root = tmp_path_factory.mktemp("plates")
    for name in ("train_images", "train_labels"):
        (root / "raw" / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, case_id in enumerate(IDS):
        image = random.integers(20, 60, (16, 20, 24), dtype=np.uint8)
        label = np.zeros(image.shape, dtype=np.uint8)
        image[4 + number : 7 + number] = 200
        label[4 + number : 7 + number] = 1
        image[0, 0, : number + 1] = 200  # volumes differ in their share
        label[..., 18:] = 2
        tifffile.imwrite(root / "raw" / "train_images" / f"{case_id}.tif", image, photometric="minisblack")
        tifffile.imwrite(root / "raw" / "train_labels" / f"{case_id}.tif", label, photometric="minisblack")
    rows = "".join(f"{case_id},scroll{case_id[0]}\n" for case_id in IDS)
    (root / "raw" / "train.csv").write_text(f"id,scroll_id\n{rows}")
    (root / "raw" / "dataset.yaml").write_text("labels: {0: background, 1: surface, 2: ignore}\n")
    dataset = prepare(root / "raw", root / "prepared")
    save_folds(make_folds(dataset, 2, "scroll")[0], dataset.root / "folds.json")
    return root / "prepared"


def answering(monkeypatch: pytest.MonkeyPatch, trained: Trained) -> None:
    """Every run holds this network."""
    monkeypatch.setattr(Run, "trained", lambda self, which="best": trained)


@pytest.fixture
def run(tmp_path, prepared, monkeypatch) -> Path:
    config = load_config(
        "preset:default",
        [
            f"data.dataset={prepared}",
            "data.patch=[16, 16, 16]",
            "name=plates",
            "precision=fp32",
            "postprocessing.steps=[{kind: threshold}]",
        ],
    ).config

    RunFolder(tmp_path, "0123456789abcdef").write_config(config)

    dataset = PreparedDataset.open(prepared)
    fold = load_folds(None, dataset).fold(0)
    data = TrainedOn(dataset.identity, 0, fold.train, fold.validation)

    answering(monkeypatch, Trained(Bright(), config, data))
    return tmp_path


def contents(run: Path) -> dict[Path, bytes]:
    """All files of a run but its lock, which nobody holds any more."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock-evaluate"}


def held_out(prepared: Path, fold: int) -> list[str]:
    return json.loads((prepared / "folds.json").read_text())["folds"][fold]["validation"]


def test_the_run_s_own_fold_is_evaluated_and_left_in_its_folder(run, prepared):
    reports: list[tuple[str, int, int]] = []
    evaluation = evaluate_run(run, progress=lambda *report: reports.append(report))
    assert [case.id for case in evaluation.cases] == held_out(prepared, 0)
    assert evaluation.mean["dice"] > 0.98
    assert evaluation.mean["recall"] == 1
    assert evaluation.warnings == ()
    assert evaluation.notes == ()
    assert load_evaluation(run).to_dict() == evaluation.to_dict()
    assert evaluation.settings["tile"] == [16, 16, 16]
    assert {name for name, _, _ in reports} == set(held_out(prepared, 0))
    for case in evaluation.cases:
        picture = imagecodecs.png_decode((run / "evaluation" / "slices" / f"{case.id}.png").read_bytes())
        assert picture.ndim == 3
        assert case.scroll_id == f"scroll{case.id[0]}"


def test_another_fold_holds_cases_that_were_trained_on_and_says_so(run, prepared):
    evaluation = evaluate_run(run, fold=1)
    assert [case.id for case in evaluation.cases] == held_out(prepared, 1)
    assert evaluation.notes == (
        f"The run was trained on {', '.join(held_out(prepared, 1))}: those scores say nothing about new volumes.",
    )


def with_folds(monkeypatch, run: Path, file: Path | None = None, **data: object) -> None:
    """The run as it is, but for the folds file of its configuration and for what it says of its data."""
    trained = Run(run).trained()
    config = trained.config.model_copy(
        update={"data": trained.config.data.model_copy(update={"folds": None if file is None else str(file)})}
    )
    other = replace(trained, config=config, data=replace(trained.data, **data))
    answering(monkeypatch, other)


def test_a_run_that_lost_its_folds_still_knows_what_it_held_out(run, prepared, monkeypatch):
    evaluation = evaluate_run(run, cases=["21", "11", "21"])
    assert [case.id for case in evaluation.cases] == ["21", "11"]
    with_folds(monkeypatch, run, Path("gone.json"))
    evaluation = evaluate_run(run)
    assert [case.id for case in evaluation.cases] == held_out(prepared, 0)
    (note,) = evaluation.notes
    assert "The run's folds are not at hand" in note


def test_folds_that_were_made_anew_change_no_score_and_are_said(run, prepared, monkeypatch, tmp_path_factory):
    before = evaluate_run(run)
    folds = load_folds(None, PreparedDataset.open(prepared))
    other = tmp_path_factory.mktemp("folds") / "folds.json"
    save_folds(replace(folds, folds=folds.folds[::-1]), other)
    with_folds(monkeypatch, run, other)
    after = evaluate_run(run)
    assert after.to_dict()["cases"] == before.to_dict()["cases"]
    (note,) = after.notes
    assert note.startswith("The folds file divides otherwise since the run was trained: fold 0 holds out ")
    trained_on = evaluate_run(run, fold=1).notes
    assert not any("was trained on" in one and "say nothing" in one for one in trained_on)


def test_another_data_set_is_not_evaluated_as_if_it_were_the_run_s(run, monkeypatch):
    with_folds(monkeypatch, run, dataset="0" * 64)
    with pytest.raises(UserError, match=r"is not the data set that .* was trained on"):
        evaluate_run(run)


def test_a_threshold_changes_the_masks_and_stands_in_the_record(run):
    loose, strict = evaluate_run(run, threshold=0.01), evaluate_run(run, threshold=0.99)
    assert loose.mean["predicted_share"] > strict.mean["predicted_share"]
    assert strict.settings["postprocessing"]["steps"][0]["level"] == 0.99


def test_what_a_run_promised_and_its_shares_are_judged(run, prepared, monkeypatch):
    trained = Run(run).trained()
    criteria = ("dice >= 0.9", "score <= 0.1")
    experiment = trained.config.experiment.model_copy(update={"criteria": criteria})
    promised = replace(trained, config=trained.config.model_copy(update={"experiment": experiment}))
    answering(monkeypatch, promised)
    evaluation = evaluate_run(run)
    dice, score, share = evaluation.verdicts
    assert (dice.reached, score.reached, share.reached) == (True, False, True)
    assert dice.sentence.startswith("dice >= 0.9: reached, 0.9")
    dataset = PreparedDataset.open(prepared)
    shares = [float((np.asarray(dataset.label(name)) == 1).sum() / (np.asarray(dataset.label(name)) != 2).sum())
              for name in IDS]  # fmt: skip
    assert evaluation.label_range == pytest.approx((min(shares), max(shares)))
    assert load_evaluation(run).verdicts == evaluation.verdicts
    everywhere = evaluate_run(run, threshold=1e-6)
    assert [one.quantity for one in everywhere.verdicts[2:] if one.reached is False] == [
        "predicted_share", *(f"predicted_share of {name}" for name in held_out(prepared, 0))
    ]  # fmt: skip


def test_without_steps_the_numbers_are_the_same(run):
    bare, whole = evaluate_run(run, keep=False, steps=False), evaluate_run(run)
    assert [case.values for case in bare.cases] == [case.values for case in whole.cases]
    assert [case.leaderboard for case in bare.cases] == [case.leaderboard for case in whole.cases]
    assert all(case.steps == () and case.probability_counts is not None for case in bare.cases)
    assert all(len(case.steps) == 1 for case in whole.cases)
    assert bare.step_effects == ()


def test_a_second_sigmoid_is_called_by_its_name(run, monkeypatch):
    class Twice(Bright):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(4 * images)

    twice = replace(Run(run).trained(), model=Twice())
    answering(monkeypatch, twice)
    warnings = evaluate_run(run).warnings
    assert any("a sigmoid was applied to what was already a probability" in warning for warning in warnings)
    assert any("every voxel was predicted to be surface" in warning for warning in warnings)


def test_the_whole_volume_is_scored_not_a_part_of_it(run, prepared):
    dataset = PreparedDataset.open(prepared)
    for case in evaluate_run(run, cases=list(IDS)).cases:
        valid = int((np.asarray(dataset.label(case.id)) != 2).sum())
        assert case.appearance.voxels == math.prod(dataset.case(case.id).shape)
        assert case.values["true_share"] * valid == pytest.approx((np.asarray(dataset.label(case.id)) == 1).sum())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"fold": 7}, "fold 7 does not exist in folds.json"),
        ({"fold": 0, "cases": ["11"]}, "exclude each other"),
        ({"cases": ["99"]}, "case 99 is not in the data set"),
        ({"cases": []}, "names no case"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"dataset": Path("nowhere")}, "not a prepared data set"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(run, arguments, said):
    with pytest.raises(UserError, match=said):
        evaluate_run(run, **arguments)
    assert [path.name for path in run.iterdir()] == [".reserve", "config.yaml"]


def test_a_missing_or_damaged_evaluation_is_named_with_the_fix(run):
    path = run / "evaluation.json"
    with pytest.raises(UserError, match="run `volumen evaluate"):
        load_evaluation(run)
    for content in ("{", "{}", "[]", '{"version": 3}', "\xff", "[" * 100_000):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match=r"evaluation.json (is damaged|has no check).* again"):
            load_evaluation(run)
    for version in (1, 2, 99, "<b>", None):
        write_record(path, {"version": version}, owner=run_owner(run))
        with pytest.raises(UserError, match=r"is of version .*, expected 4: run `volumen evaluate"):
            load_evaluation(run)


def test_an_evaluation_belongs_to_its_run(run, tmp_path_factory):
    evaluate_run(run)
    other = tmp_path_factory.mktemp("other")
    RunFolder(other, "another").write_config(Run(run).trained().config)
    (other / "evaluation.json").write_bytes((run / "evaluation.json").read_bytes())
    with pytest.raises(UserError, match="or it is of another run"):
        load_evaluation(other)


def test_an_evaluation_that_breaks_off_leaves_the_one_before(run, monkeypatch):
    before = evaluate_run(run)
    files = contents(run)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluate, "label_shares", fail)  # after the last picture
    with pytest.raises(OSError, match="No space"):
        evaluate_run(run, threshold=0.9)
    assert contents(run) == files
    assert load_evaluation(run).to_dict() == before.to_dict()
    assert read_pictures(run, before)[1] == ()


def test_a_second_evaluation_of_a_run_is_refused_while_the_first_goes_on(run):
    def again(*_: object) -> None:
        with pytest.raises(UserError, match="in use by"):
            evaluate_run(run)
        assert evaluate_run(run, keep=False, cases=["11"]).cases  # which writes nothing

    evaluate_run(run, cases=["21"], progress=again)


def test_a_run_that_cannot_be_written_to_is_refused_before_the_work(run, monkeypatch):
    (run / "evaluation").write_text("in the way")
    monkeypatch.setattr(Recipe, "of_case", lambda *_: pytest.fail("it began"))
    with pytest.raises(UserError, match=r"cannot be written to .*make the run folder"):
        evaluate_run(run)
    (run / "evaluation").unlink()
    (run / "evaluation.json").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        evaluate_run(run)


def test_swapped_flipped_and_lost_pictures_are_left_out_and_said(run):
    evaluation = evaluate_run(run, cases=["11", "12", "21", "22"])
    assert set(evaluation.pictures) == {"11", "12", "21", "22"}
    slices = run / "evaluation" / "slices"
    first, second = (slices / f"{name}.png" for name in ("11", "12"))
    first_bytes = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_bytes)
    flipped = bytearray((slices / "21.png").read_bytes())
    flipped[-20] ^= 1
    (slices / "21.png").write_bytes(flipped)
    (slices / "22.png").unlink()
    whole, said = read_pictures(run, load_evaluation(run))
    assert whole == {}
    missing, strange = said
    assert "22 are missing" in missing
    assert "11, 12, 21 are not those of the evaluation" in strange
