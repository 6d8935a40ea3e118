"""Validation: the same numbers, whoever computes them and whatever was known before; a stop is heard at once."""

import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.small_datasets import prepared_dataset

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.inference.predictor import Predictor
from volumen.inference.recipe import predictor_of
from volumen.models import build_model
from volumen.runtime import Precision
from volumen.system.stopping import StopRequest, StopWanted, ask_to_stop
from volumen.training import behind as behind_module
from volumen.training.behind import Behind, threads_beside
from volumen.training.objective import build_objective
from volumen.training.validate import Truths, Validation, validate

CASES = ("a", "b", "c", "d", "e")
SMALL = ["data.patch=[16, 16, 16]", "model.filters=2", "model.depth=2"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("validated")
    return prepared_dataset(folder, dict.fromkeys(CASES, "s"), lambda number: (18 + number, 24, 20), empty=2)


def configuration(dataset: PreparedDataset, *overrides: str) -> Config:
    return load_config("preset:default", [f"data.dataset={dataset.root}", *SMALL, *overrides]).config


def predictor(config: Config, seed: int) -> Predictor:
    torch.manual_seed(seed)
    model = build_model(config.model, prior=0.3)
    return predictor_of(model, config, torch.device("cpu"), Precision("fp32", "cpu"))


def plain(validation: Validation) -> dict[str, object]:
    return replace(validation, seconds=0.0).record()


@settings(max_examples=6)
@given(seed=st.integers(0, 2**31), threads=st.integers(1, 5), choice=st.permutations(CASES), epoch=st.integers(0, 9),
       protocol=st.sampled_from(["{kind: full}", "{kind: crops, per_volume: 3}", "{kind: crops, fresh: true}"]),
       metric=st.sampled_from(["dice", "leaderboard", "voi"]))  # fmt: skip
def test_what_is_computed_behind_is_what_is_computed_in_turn(
    dataset: PreparedDataset, seed: int, threads: int, choice: list[str], epoch: int, protocol: str, metric: str
) -> None:
    config = configuration(dataset, f"training.validation={protocol}", f"training.selection_metric={metric}")
    cases, given_model, objective = choice[: 1 + seed % 5], predictor(config, seed), build_objective(config.loss, 0)
    known: Truths = {}
    found = [
        validate(given_model, objective, dataset, cases, config, epoch, truths=truths, threads=number)
        for number, truths in ((0, None), (threads, known), (None, known))
    ]
    assert all(repr(plain(one)) == repr(plain(found[0])) for one in found)
    assert list(found[0].cases) == cases
    for one in found:
        assert [shown.case for shown in one.shown] == cases[:2]
        for shown, first in zip(one.shown, found[0].shown, strict=True):
            assert np.array_equal(shown.mask, first.mask)
            assert np.array_equal(shown.image, first.image, equal_nan=True)
    assert bool(known) == (protocol == "{kind: full}")


@given(delays=st.lists(st.sampled_from([0.0, 0.001, 0.004]), max_size=12), threads=st.integers(0, 4))
def test_results_come_in_the_order_of_the_tasks_and_few_wait(delays: list[float], threads: int) -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def task(number: int, delay: float) -> int:
        nonlocal under_way
        time.sleep(delay)
        with lock:
            under_way -= 1
        return number

    with Behind[int](threads) as work:
        for number, delay in enumerate(delays):
            with lock:
                under_way += 1
            work.add(partial(task, number, delay))
            most = max(most, under_way)
        assert work.results() == list(range(len(delays)))
    assert most <= threads + 1


@given(fails=st.integers(0, 5), threads=st.integers(0, 3))
def test_the_first_error_of_a_task_is_the_callers(fails: int, threads: int) -> None:
    def task(number: int) -> int:
        if number >= fails:
            raise ValueError(number)
        return number

    def hand_in() -> None:
        with Behind[int](threads) as work:
            for number in range(7):
                work.add(partial(task, number))
            work.results()

    with pytest.raises(ValueError, match=f"^{fails}$"):
        hand_in()


def test_a_stop_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(behind_module, "_ASK_SECONDS", 0.01)

    def hand_in() -> None:
        with StopRequest(), Behind[bool](1) as work:
            work.add(goes_on.wait)
            ask_to_stop("the test")
            work.results()  # the task has not ended, and is not waited for

    try:
        with pytest.raises(StopWanted):
            hand_in()
        assert not goes_on.is_set()
    finally:
        goes_on.set()


def test_only_a_device_that_would_be_idle_is_worked_behind() -> None:
    assert threads_beside(torch.device("cpu")) == 0 < threads_beside(torch.device("cuda"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_card_finds_what_a_cpu_finds(dataset: PreparedDataset, tmp_path: Path) -> None:
    config, found = configuration(dataset), []
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        model = build_model(config.model, prior=0.3)
        given_model = predictor_of(model, config, torch.device(device), Precision("fp32", device))
        found.append(validate(given_model, build_objective(config.loss, 0), dataset, CASES, config))
    assert found[1].total == pytest.approx(found[0].total, rel=1e-3)
    assert found[1].metrics["dice"] == pytest.approx(found[0].metrics["dice"], abs=0.02)
