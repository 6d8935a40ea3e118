"""Tuning: nothing is reported on what a search saw, the number of processes changes nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_datasets import prepared_dataset
from volumen.config.postprocessing import Postprocessing
from volumen.data.labels import SURFACE
from volumen.errors import UserError
from volumen.experiments.held_out import HeldOut, write_prediction
from volumen.experiments.searching import START, starting_points, suggest
from volumen.experiments.tuning import (
    SCORES,
    Scorer,
    Search,
    Tuned,
    ablation,
    groups_of,
    leave_out,
    mean_and_noise,
    tune,
)

TRIALS = 6


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> tuple[HeldOut, ...]:
    """Four volumes in two groups, with predictions that say 0.35 to 0.45 on the sheet and up to 0.3 elsewhere."""
    folder = tmp_path_factory.mktemp("tuning")
    dataset = prepared_dataset(folder, {"a": "1", "b": "1", "c": "2", "d": "2"})
    found = []
    for number, case in enumerate(dataset.cases):
        label, random = np.asarray(dataset.label(case.id)), np.random.default_rng(number)
        probabilities = np.where(label == SURFACE, 0.35, 0.2) + 0.1 * random.random(label.shape)
        kept = write_prediction(folder / f"{case.id}.npy", probabilities)
        found.append(HeldOut(case.id, case.scroll_id, dataset, {f"run{number % 2}": kept}))
    return tuple(found)


def test_groups_are_folds_or_single_cases(cases) -> None:
    assert groups_of(cases) == {"run0": ("a", "c"), "run1": ("b", "d")}
    alone = [replace(one, files={"run0": next(iter(one.files.values()))}) for one in cases]
    assert groups_of(alone) == {"a": ("a",), "b": ("b",), "c": ("c",), "d": ("d",)}
    with pytest.raises(UserError, match="two held-out volumes"):
        groups_of(cases[:1])


def test_what_is_reported_was_not_seen_by_its_search(cases, tmp_path, monkeypatch) -> None:
    seen: dict[tuple[str, ...], int] = {}
    original = Scorer.mean

    def spying(self, settings, case_ids):
        seen[tuple(case_ids)] = seen.get(tuple(case_ids), 0) + 1
        return original(self, settings, case_ids)

    monkeypatch.setattr(Scorer, "mean", spying)
    tuned = tune(cases, tmp_path, trials=TRIALS)
    assert set(seen) == {("b", "d"), ("a", "c"), ("a", "b", "c", "d")}
    scorer = Scorer(cases, tmp_path / SCORES)
    by_group = {search.left_out: search for search in tuned.nested}
    for group, ids in groups_of(cases).items():
        for case_id in ids:
            assert tuned.scores["tuned"][case_id] == scorer.score(by_group[group].pipeline, case_id)
            assert tuned.scores["threshold"][case_id] == scorer.score(by_group[group].threshold, case_id)
            assert tuned.scores["raw"][case_id] == scorer.score(Postprocessing(), case_id)
    assert tuned.scores["threshold"]["a"] > tuned.scores["raw"]["a"]  # 0.5 finds nothing here
    assert tuned.final.fitted >= scorer.mean(suggest_first(), list(scorer.cases))


def suggest_first() -> Postprocessing:
    import optuna

    return suggest(optuna.trial.FixedTrial(starting_points()[0]))


def test_processes_find_what_one_finds(cases, tmp_path) -> None:
    alone, together = (tune(cases, tmp_path / str(n), trials=TRIALS, workers=n) for n in (1, 2))
    assert alone == together
    assert alone.scores == together.scores


@pytest.mark.parametrize("workers", [1, 2])
def test_a_prediction_that_is_damaged_meanwhile_ends_the_search(cases, tmp_path, workers) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(cases[0].files["run0"].path.read_bytes()[:-1] + b"!")
    kept = replace(cases[0].files["run0"], path=path)
    with pytest.raises(UserError, match="damaged: its SHA-256 is not the recorded one") as error:
        tune([replace(cases[0], files={"run0": kept}), *cases[1:]], tmp_path, trials=TRIALS, workers=workers)
    assert "\n" not in str(error.value)


def test_a_worker_that_is_killed_is_told_and_its_search_goes_on(cases, tmp_path) -> None:
    whole = tune(cases, tmp_path / "whole", trials=TRIALS)
    killing = threading.Thread(target=kill_a_child_at, args=(tmp_path / "scores",))
    killing.start()
    with pytest.raises(UserError, match="ended from outside"):
        tune(cases, tmp_path, trials=TRIALS, workers=2)
    killing.join()
    assert tune(cases, tmp_path, trials=TRIALS) == whole


def test_processes_that_only_score_do_not_import_torch() -> None:
    """It takes each of them two seconds and 200 MB."""
    code = "import sys, volumen.experiments.tuning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def kill_a_child_at(scores: Path) -> None:
    """As the system does when memory runs out; workers name their logs by their number."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for log in scores.glob("*.jsonl"):
            if int(log.stem) != os.getpid():
                os.kill(int(log.stem), signal.SIGKILL)
                return
        time.sleep(0.005)


def pipeline(*steps: dict) -> Postprocessing:
    return Postprocessing.model_validate({"steps": steps})


def test_a_step_is_worth_what_leaving_it_out_costs(cases, tmp_path) -> None:
    sheet = {"kind": "threshold", "level": 0.32}
    good = pipeline(sheet, {"kind": "plug_pinholes"})
    bad = pipeline(sheet, {"kind": "remove_small_components", "minimum_voxels": 20000})
    nested = tuple(Search(group, one, one, 0.0, 1) for group, one in (("run0", good), ("run1", bad)))
    found = {one.step: one for one in ablation(Tuned(nested[0], nested, {}), cases, tmp_path)}
    assert found["remove_small_components"].harmful  # it removes the sheet
    assert found["remove_small_components"].searches == 1
    assert found["threshold"].searches == 2
    scorer = Scorer(cases, tmp_path)
    expected = [scorer.score(good, name) - scorer.score(leave_out(good, 0), name) for name in ("a", "c")]
    expected += [0.0, 0.0]  # the other pipeline leaves nothing with and without its threshold
    assert found["threshold"].gain == pytest.approx(np.mean(expected))
    assert found["threshold"].gain > 0
    assert [step.kind for step in leave_out(bad, 0).steps] == ["threshold", "remove_small_components"]
    assert [step.kind for step in leave_out(bad, 1).steps] == ["threshold"]


def test_too_few_trials_are_refused(cases, tmp_path) -> None:
    with pytest.raises(UserError, match=f"at least {len(START)}"):
        tune(cases, tmp_path, trials=len(START) - 1)


def test_noise_is_the_standard_error_of_paired_differences() -> None:
    assert mean_and_noise([0.1, 0.3]) == pytest.approx((0.2, 0.1))
    assert np.isnan(mean_and_noise([0.1])[1])
