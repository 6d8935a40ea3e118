"""Trainings that begin with other weights, and data sets that were moved."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.doctor.audit import run_audit
from volumen.doctor.context import open_context
from volumen.errors import UserError
from volumen.inference.predictor import weights_identity
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runs.records import read_run_logs
from volumen.runs.run import Run
from volumen.training.initial import initial_weights
from volumen.training.loop import run_training

SMALL = (
    "data.patch=[16, 16, 16]", "data.sampling.patches_per_epoch=6", "data.workers=0", "model.filters=2",
    "model.depth=2", "training.epochs=2", "postprocessing.steps=[{kind: threshold}]",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A prepared data set, a run on its first fold, and a bundle of that."""
    folder = tmp_path_factory.mktemp("initial")
    write_phantom_dataset(folder / "raw", volumes=6, shape=(32, 32, 32), scrolls=1, seed=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "3"]) == 0
    run_training(configuration(folder), folder / "first", SilentDisplay())
    assert volumen(["bundle", str(folder / "first"), "--out", str(folder / "first.volumen")]) == 0
    return folder


def configuration(place: Path, *overrides: str) -> Config:
    return load_config("preset:default", [f"data.dataset={place / 'prepared'}", *SMALL, *overrides]).config


class StopAfter(SilentDisplay):
    """Sends the signal of a scheduler after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stepped(self, state, result, steps_per_epoch) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    return open_run(run).checkpoints.load_latest(pytest.fail)["model"]


def test_a_run_begins_with_the_weights_of_another_and_resumes_without_it(place, tmp_path) -> None:
    shutil.copytree(place / "first", tmp_path / "source")
    config = configuration(place, f"model.initial_weights={tmp_path / 'source'}", "seed=7")
    run_training(config, tmp_path / "whole", SilentDisplay())
    assert run_training(config, tmp_path / "parts", StopAfter(2)).state == "stopped"
    shutil.rmtree(tmp_path / "source")
    assert run_training(config, tmp_path / "parts", SilentDisplay(), resume=True).state == "finished"
    whole, parts = last_weights(tmp_path / "whole"), last_weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    trained = Run(place / "first").trained()
    event = next(one for one in read_run_logs(tmp_path / "parts").events if one["kind"] == "initial_weights")
    assert event["sha256"] == weights_identity(trained.model)
    assert event["learned_from"] == sorted(trained.data.train)
    assert Run(tmp_path / "parts").trained().data.before == tuple(sorted(trained.data.train))
    with pytest.raises(UserError, match=r"there is no .*source: give a run folder or a bundle"):
        run_training(config, tmp_path / "again", SilentDisplay())
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["first", "first.volumen"])
def test_a_run_and_its_bundle_give_the_same_weights_and_the_audit_starts_from_them(place, name) -> None:
    config = configuration(place, f"model.initial_weights={place / name}")
    found = initial_weights(config.model)
    assert found is not None
    assert found.sha256 == weights_identity(Run(place / "first").trained().model)
    assert initial_weights(configuration(place).model) is None
    findings = run_audit(open_context(load_config("preset:default", [
        f"data.dataset={place / 'prepared'}", *SMALL, f"model.initial_weights={place / name}"
    ])), only=("P8",)).findings  # fmt: skip
    said = [f"{one.severity} {one.evidence}" for one in findings if "initial weights" in one.title]
    assert len(said) == (name == "first.volumen")
    assert all("does not say which volumes" in one for one in said)


@pytest.mark.parametrize(
    ("override", "layers"),
    [
        ("model.filters=4", ["[2, 1, 3, 3, 3], expected torch.float32 [4, 1, 3, 3, 3]"]),
        ("model.depth=3", ["is missing"]),
        ("model={kind: resenc, size: S}", ["is missing", ";"]),
    ],
)
def test_weights_of_another_network_are_refused_before_the_audit_by_their_layers(
    place, tmp_path, monkeypatch, capsys, override, layers
) -> None:
    monkeypatch.setattr("volumen.doctor.preflight.run_audit", lambda *_, **__: pytest.fail("it audits"))
    options = [f"data.dataset={place / 'prepared'}", *SMALL, override, f"model.initial_weights={place / 'first'}"]
    if "resenc" in override:
        options = [one for one in options if not one.startswith(("model.filters", "model.depth"))]
    arguments = [part for one in options for part in ("-o", one)]
    assert volumen(["train", "preset:default", "--out", str(tmp_path / "run"), *arguments]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "is another network than the configuration's model" in said
    assert all(one in said for one in layers), said
    assert not (tmp_path / "run").exists()


def test_weights_that_have_seen_what_is_held_out_are_refused_however_long_ago(place, tmp_path) -> None:
    start = f"model.initial_weights={place / 'first'}"
    run_training(configuration(place, "data.fold=1", start, "training.epochs=1"), tmp_path / "second", SilentDisplay())
    for fold, source, stops in ((0, "first", False), (1, "first", True), (0, "second", True), (2, "second", True)):
        folder = place / source if source == "first" else tmp_path / source
        overrides = [f"data.dataset={place / 'prepared'}", *SMALL, f"data.fold={fold}"]
        context = open_context(load_config("preset:default", [*overrides, f"model.initial_weights={folder}"]))
        found = [one for one in run_audit(context, only=("P8",)).findings if "initial weights" in one.title]
        assert [one.severity for one in found] == ["stop"] * stops
        assert all(context.validation[0] in one.evidence for one in found)


def test_a_data_set_that_moved_is_named_by_every_command(place, tmp_path, capsys) -> None:
    shutil.copytree(place / "first", tmp_path / "first")
    (place / "prepared").rename(tmp_path / "moved")
    try:
        run, moved = str(tmp_path / "first"), ["--dataset", str(tmp_path / "moved")]
        commands = (
            ["evaluate", run],
            ["select", run],
            ["tune", run, "--out", str(tmp_path / "tuned"), "--trials", "4"],
            ["ensemble", run, "--out", str(tmp_path / "a.volumen")],
            ["train", run, "--resume", "--quiet"],
        )
        for command in commands:
            assert volumen(command) == 2, command
            said = capsys.readouterr().err
            assert "--dataset" in said
            assert len(said.splitlines()) == 1
            assert volumen([*command, *moved]) == 0, (command, capsys.readouterr().err)
            capsys.readouterr()
        assert volumen(["bundle", run, "--out", str(tmp_path / "b.volumen"), *moved]) == 0
        assert "1 surface" in capsys.readouterr().out
        arguments = [part for one in SMALL for part in ("-o", one)]
        audit = ["audit", "preset:default", "--only", "P7", *arguments, *moved]
        assert volumen(audit) == 0
    finally:
        (tmp_path / "moved").rename(place / "prepared")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card here")
def test_a_run_of_a_card_predicts_on_a_processor_but_not_where_a_card_is_asked_for(place, tmp_path, capsys) -> None:
    """Its checkpoint says `cuda` and `fp16`, which this machine lacks."""
    run = shutil.copytree(place / "first", tmp_path / "first")
    store = open_run(run).checkpoints
    state = store.load_best(pytest.fail)
    config = Config.model_validate_json(state["config"]).model_copy(update={"device": "cuda", "precision": "fp16"})
    store.save({**state, "config": config.model_dump_json()}, step=10**6, epoch=99, best=True)
    images = str(place / "raw" / "train_images")
    expected = volumen(["predict", str(place / "first"), images, str(tmp_path / "expected"), "-o", "precision=auto"])
    assert expected == 0
    capsys.readouterr()
    assert volumen(["predict", str(run), images, str(tmp_path / "masks")]) == 0
    assert volumen(["bundle", str(run), "--out", str(tmp_path / "a.volumen")]) == 0
    assert volumen(["predict", str(tmp_path / "a.volumen"), images, str(tmp_path / "again")]) == 0
    for mask in (tmp_path / "expected").glob("*.tif"):
        assert mask.read_bytes() == (tmp_path / "masks" / mask.name).read_bytes()
    capsys.readouterr()
    assert volumen(["predict", str(run), images, str(tmp_path / "none"), "-o", "device=cuda"]) == 2
    assert "PyTorch sees no CUDA device" in capsys.readouterr().err
