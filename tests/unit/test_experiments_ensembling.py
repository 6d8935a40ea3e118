"""Weights of an ensemble: fitted where that helps on unseen volumes, equal elsewhere, refused where none is known."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_datasets import prepared_dataset
from volumen.config.postprocessing import Postprocessing
from volumen.data.labels import SURFACE
from volumen.errors import UserError
from volumen.experiments.ensembling import Family, weigh
from volumen.experiments.held_out import HeldOut, write_prediction
from volumen.experiments.out_of_fold import RunWeights

RAW = Postprocessing()


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> tuple[HeldOut, ...]:
    """Four volumes with a good, an equally good and an empty answer to each."""
    folder = tmp_path_factory.mktemp("ensembling")
    dataset = prepared_dataset(folder, {"a": "1", "b": "1", "c": "2", "d": "2"})
    found = []
    for number, case in enumerate(dataset.cases):
        truth, files = np.asarray(dataset.label(case.id)) == SURFACE, {}
        for name, found_share in (("good", 0.97), ("twin", 0.97), ("bad", 0.0)):
            random = np.random.default_rng([number, len(name), ord(name[0])])
            other = truth & (random.random(truth.shape) < found_share)
            answer = np.where(other, 0.7, 0.05 if name == "bad" else 0.35)
            files[name] = write_prediction(folder / f"{case.id}-{name}.npy", answer)
        found.append(HeldOut(case.id, case.scroll_id, dataset, files))
    return tuple(found)


def families(*names: str) -> list[Family]:
    return [Family(name, (name,)) for name in names]


def test_a_useless_family_gets_no_weight(cases) -> None:
    found = weigh(cases, families("good", "bad"), RAW)
    assert found.verdict.startswith("fitted")
    assert found.weights == {"good": 1.0, "bad": 0.0}
    assert found.gain > 2 * found.noise
    assert found.single["good"] > found.equal
    assert found.fitted == pytest.approx(found.equal + found.gain)
    assert found.shares([RunWeights(Path("good")), RunWeights(Path("bad"))]) == [1.0, 0.0]


@pytest.mark.parametrize("mean", ["probability", "logit"])
def test_twins_weigh_alike(cases, mean) -> None:
    found = weigh(cases, families("good", "twin"), RAW, mean=mean)
    assert found.verdict.startswith("all alike") or found.weights["good"] == pytest.approx(0.5, abs=0.2)
    assert sum(found.weights.values()) == pytest.approx(1)


def test_folds_of_one_family_weigh_alike(cases) -> None:
    halves = [
        HeldOut(case.id, case.scroll_id, case.dataset, {name: case.files["good"]})
        for case, name in zip(cases, ("one", "one", "two", "two"), strict=True)
    ]
    found = weigh(halves, [Family("one", ("one", "two"))], RAW)
    assert found.verdict.startswith("all alike: the runs differ by their fold only")
    assert found.weights == {"one": 1.0}
    assert found.fitted is None


def test_few_or_no_common_volumes(cases) -> None:
    assert "too few" in weigh(cases[:2], families("good", "bad"), RAW).verdict
    apart = [
        HeldOut(case.id, case.scroll_id, case.dataset, {name: case.files[name]})
        for case, name in zip(cases, ("good", "good", "bad", "bad"), strict=True)
    ]
    with pytest.raises(UserError, match="no volume was held out by all of good, bad"):
        weigh(apart, families("good", "bad"), RAW)


def test_mixing_is_the_weighted_mean(cases) -> None:
    case = cases[0]
    good, bad = (np.load(case.files[name].path).astype(np.float64) for name in ("good", "bad"))
    np.testing.assert_allclose(case.mixed({"good": 3.0, "bad": 1.0}), 0.75 * good + 0.25 * bad, atol=1e-6)
    logits = 0.5 * np.log(good / (1 - good)) + 0.5 * np.log(bad / (1 - bad))
    np.testing.assert_allclose(case.mixed({"good": 1.0, "bad": 1.0}, "logit"), 1 / (1 + np.exp(-logits)), atol=1e-5)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, -0.1, 0.0])
def test_weights_that_are_none_are_refused(cases, weight) -> None:
    with pytest.raises(UserError, match="finite, not negative, and not all 0"):
        cases[0].mixed({"good": weight})


def test_the_order_of_the_sources_changes_no_bit(cases) -> None:
    one, *_ = cases
    turned = replace(one, files=dict(reversed(one.files.items())))
    assert one.group == turned.group
    assert np.array_equal(one.probabilities, turned.probabilities)


def test_sources_are_runs_and_their_weights() -> None:
    assert RunWeights.of("runs/a").name == "a"
    assert RunWeights.of("runs/a:swa") == RunWeights(RunWeights.of("runs/a").run, "swa")
    assert RunWeights.of("runs/a:swa").name == "a:swa"
    assert RunWeights.of("runs/odd:name").run.name == "odd:name"
