"""A run's difference from its parent: which factors, in which words, and when nobody can tell them apart."""

from html import unescape
from pathlib import Path

import pytest
from tests.run_folders import log, new_run

from volumen.config.base import Section
from volumen.config.compare import FACTORS, NO_FACTORS, Descent, confounded, descent_of, factor_of
from volumen.config.inheritance import PRESETS
from volumen.config.load import load_config, parent_of
from volumen.config.schema import Config
from volumen.reporting.report import write_report
from volumen.reporting.terminal import TrainingDisplay

TOGETHER = ("data.batch=8", "optimiser.learning_rate=0.15", "loss.terms.soft_dice.weight=0.4")


def file_with(folder: Path, text: str, name: str = "child.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_factors_are_named_by_the_narrowest_key():
    assert factor_of("optimiser.learning_rate") == "learning rate"
    assert factor_of("optimiser.momentum") == "optimiser"
    assert factor_of("loss.terms.focal.weight") == factor_of("loss.curriculum.0.name") == "objective"
    assert factor_of("training.average.decay") == "training.average"


@pytest.mark.parametrize("key", [*FACTORS, *NO_FACTORS])
def test_every_factor_is_a_key_of_the_configuration(key):
    place: object = load_config("preset:default").config
    assert isinstance(place, Config)
    for part in key.split("."):
        assert isinstance(place, Section)
        assert part in type(place).model_fields
        place = getattr(place, part)


@pytest.mark.parametrize("where", ["overrides", "file"])
def test_batch_rate_and_weights_together_are_called_out(tmp_path, where):
    child = (
        "base: preset:default\nname: child\ndata: {batch: 8}\noptimiser: {learning_rate: 0.15}\n"
        "loss: {terms: {soft_dice: {weight: 0.4}}}\n"
    )
    given = ("preset:default", TOGETHER) if where == "overrides" else (file_with(tmp_path, child), ())
    found = descent_of(load_config(*given))
    assert found is not None
    assert found.parent == "preset:default"
    assert found.factors == {
        "batch size": ("data.batch 2 -> 8",),
        "objective": ("loss.terms.soft_dice.weight 1.0 -> 0.4",),
        "learning rate": ("optimiser.learning_rate 0.005 -> 0.15",),
    }
    difference, warning = found.lines()
    assert "batch size (data.batch 2 -> 8)" in difference
    assert warning == (
        "3 factors differ (batch size, objective, learning rate): what comes of it cannot be credited to one of them"
    )


@pytest.mark.parametrize("one", TOGETHER)
def test_one_factor_is_said_and_not_called_out(one):
    found = descent_of(load_config("preset:default", [one, "name=other", "data.workers=0", "data.dataset=there"]))
    assert found is not None
    assert len(found.lines()) == len(found.factors) == 1
    assert confounded(found.factors) == ""


def test_names_and_places_are_no_difference(tmp_path):
    places = ["name=other", "data.dataset=there", "data.folds=f.json", "data.workers=0", "experiment.hypothesis=none"]
    assert descent_of(load_config("preset:default", places)) is None
    assert descent_of(load_config("preset:default")) is None
    assert descent_of(load_config(file_with(tmp_path, "base: preset:default\nname: child\n"))) is None


def test_all_bases_together_are_the_parent(tmp_path):
    file_with(tmp_path, "base: preset:default\ndata: {batch: 4}\n", "batch.yaml")
    file_with(tmp_path, "optimiser: {learning_rate: 0.01}\n", "rate.yaml")
    loaded = load_config(file_with(tmp_path, "base: [batch.yaml, rate.yaml]\nseed: 3\n"))
    found, parent = descent_of(loaded), parent_of(loaded)
    assert found is not None
    assert parent is not None
    assert dict(found.factors) == {"seed": (f"seed {parent.config.seed} -> 3",)}
    assert found.parent.count(".yaml") == 2
    assert (parent.config.data.batch, parent.config.optimiser.learning_rate) == (4, 0.01)


def test_a_parent_may_leave_the_data_set_to_its_child(tmp_path):
    whole = (PRESETS / "default.yaml").read_text()
    assert "  dataset: prepared\n" in whole
    source = file_with(tmp_path, whole.replace("  dataset: prepared\n", ""))
    found = descent_of(load_config(source, ["data.dataset=here", "data.batch=4"]))
    assert found is not None
    assert list(found.factors) == ["batch size"]


def test_what_is_recorded_is_read_back():
    found = descent_of(load_config("preset:default", TOGETHER))
    assert found is not None
    assert Descent.of_event({"step": 0, **found.event()}) == found
    assert Descent.of_event({"kind": "parent", "parent": 3, "factors": {}}) is None


def test_the_plans_batch_of_eight_changed_more_than_the_batch():
    found = descent_of(load_config("preset:gpu_batch8"))
    assert found is not None
    assert found.parent == "preset:plan"
    assert {"batch size", "learning rate", "objective"} <= set(found.factors)
    assert len(found.lines()) == 2


def test_a_run_shows_and_reports_what_it_changes(tmp_path, capsys):
    several = descent_of(load_config("preset:default", TOGETHER))
    alone = descent_of(load_config("preset:default", TOGETHER[:1]))
    for name, found in (("several", several), ("alone", alone)):
        assert found is not None
        with TrainingDisplay() as display:
            display.event(found.event())
        shown = capsys.readouterr().out
        run = new_run(tmp_path / name)
        log(run, "events.jsonl", {"step": 0, "epoch": 0, "time": 0.0, **found.event()})
        page = write_report(run)[0].read_text()
        for text in (shown, unescape(page)):
            assert "differs from preset:default in batch size (data.batch 2 -> 8)" in text
            assert ("cannot be credited to one of them" in text) == (name == "several")
