"""From runs to a zip by the commands a person types: bundle, select, predict with a bundle alone, submit."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from volumen.cli.main import run as volumen
from volumen.config.fragments import load_postprocessing
from volumen.data import volumes
from volumen.data.volumes import read_volume
from volumen.experiments import held_out, tuned_runs
from volumen.inference.bundle import Member, read_bundle, write_bundle
from volumen.inference.recipe import Recipe
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.runs.checkpoints import CheckpointStore
from volumen.runs.folder import run_config
from volumen.submission import pace
from volumen.submission import submit as submission
from volumen.system.locks import hold
from volumen.system.records import read_record


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run on phantoms, another one that held out another fold, and test images that differ."""
    folder = tmp_path_factory.mktemp("place")
    write_phantom_dataset(folder / "raw", volumes=2, shape=(32, 32, 40), scrolls=1, seed=3, test_volumes=3)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2"]) == 0
    settings = {
        "data.dataset": folder / "prepared", "data.patch": "[16, 16, 16]", "data.sampling.patches_per_epoch": 2,
        "data.workers": 0, "model.filters": 2, "model.depth": 2, "training.epochs": 2, "precision": "fp32",
        "training.swa": "{start_epoch: 0}",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    assert volumen(["train", "preset:default", "--out", str(folder / "first"), "--quiet", *options]) == 0
    variant(folder, "second", {"data": {"fold": 1}})
    return folder


def variant(folder: Path, name: str, changes: dict[str, dict[str, object]]) -> None:
    """Another run as `train` would have left it: other settings, other weights, no equal average."""
    shutil.copytree(folder / "first", folder / name)
    shutil.rmtree(folder / name / "checkpoints")
    state = CheckpointStore(folder / "first" / "checkpoints").load_latest(print)
    config = json.loads(state["config"])
    for section, values in changes.items():
        config[section] |= values
    state |= {"config": json.dumps(config), "swa": None}
    data = state["data"]
    if config["data"]["fold"] != data["fold"]:  # of two folds, each holds out what the other learns from
        state["data"] = {**data, "fold": 1, "train": data["validation"], "validation": data["train"]}
    state["model"] = {key: tensor * 0.9 for key, tensor in state["model"].items()}
    CheckpointStore(folder / name / "checkpoints").save(state, step=1, epoch=1, best=True)


class Edge(torch.nn.Module):
    """A sound predictor that needs no training: surface where the scan is bright."""

    divisor = (4, 4, 4)

    def __init__(self, scale: float = 4.0, offset: float = 0.0) -> None:
        super().__init__()
        self.scale, self.offset = torch.nn.Parameter(torch.tensor(scale)), torch.nn.Parameter(torch.tensor(offset))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images + self.offset


class Twice(Edge):
    """What one sigmoid too many makes of it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(super().forward(images))


@pytest.fixture
def bundle(place, tmp_path, monkeypatch) -> Path:
    """A bundle of the first run whose network is replaced by one that predicts something."""
    path = tmp_path / "model.volumen"
    assert volumen(["bundle", str(place / "first"), "--out", str(path)]) == 0
    use(monkeypatch, Edge())
    return path


def use(monkeypatch, network: torch.nn.Module) -> None:
    monkeypatch.setattr("volumen.inference.bundle.Bundle.model", lambda self: network.eval())


def submit(bundle: Path, place: Path, archive: Path, *options: str) -> int:
    return volumen(["submit", str(bundle), str(place / "raw"), str(archive), *options])


def test_a_bundle_predicts_as_its_run_did_and_needs_nothing_beside_it(place, tmp_path, capsys):
    images, out = place / "raw" / "test_images", tmp_path / "model.volumen"
    assert volumen(["predict", str(place / "first"), str(images), str(tmp_path / "by_run")]) == 0
    assert volumen(["bundle", str(place / "first"), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    identity = read_bundle(out).identity
    for said in ("first (best)", "100.0 %", "1 surface", "probability above 0.5", " kB", identity):
        assert said in text, said
    assert volumen(["bundle", str(place / "first"), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert volumen(["bundle", str(place / "first"), "--out", str(out), "--overwrite"]) == 0
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    shutil.copy(out, alone / "renamed.volumen")
    assert volumen(["predict", str(alone / "renamed.volumen"), str(images), str(tmp_path / "by_bundle")]) == 0
    for image in images.iterdir():
        one, other = (read_volume(tmp_path / folder / image.name) for folder in ("by_run", "by_bundle"))
        assert np.array_equal(one, other)
    assert json.loads((tmp_path / "by_bundle" / "prediction.json").read_text())["settings"]["bundle"] == identity


def test_overrides_reach_a_bundle_as_they_reach_a_run(place, tmp_path, capsys):
    out = tmp_path / "model.volumen"
    runs = [str(place / "first"), str(place / "second")]
    tuned = ["-o", "postprocessing.steps.0.level=0.3", "--weights", "1,3", "--mean", "logit"]
    assert volumen(["bundle", *runs, "--which", "last", "--out", str(out), *tuned]) == 0
    made = read_bundle(out)
    assert [one.share for one in made.members] == [1, 3]
    assert (made.mean, made.config.postprocessing.threshold) == ("logit", 0.3)
    assert "75.0 %" in capsys.readouterr().out
    command = ["predict", str(out), str(place / "raw" / "test_images"), str(tmp_path / "masks")]
    assert volumen([*command, "-o", "inference.overlap=0.0", "-o", "postprocessing.steps.1.minimum_voxels=7"]) == 0
    settings = json.loads((tmp_path / "masks" / "prediction.json").read_text())["settings"]
    assert settings["overlap"] == 0
    assert settings["postprocessing"]["steps"][1]["minimum_voxels"] == 7
    assert settings["postprocessing"]["steps"][0]["level"] == 0.3
    for options, said in (
        (["-o", "model.filters=4"], "cannot change after training"),
        (["-o", "inference.mirrow=true"], "mirror"),
        (["--which", "last"], "its weights were chosen"),
    ):
        assert volumen([*command[:3], str(tmp_path / "others"), *options]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{}/first --out {}/model.zip", "must end in .volumen"),
        ("{}/first --out {}/model.volumen --weights 1,2", "as many weights"),
        ("{}/first --out {}/model.volumen --weights=-1", "not negative"),
        ("{}/first --out {}/model.volumen --weights half", "separated by commas"),
        ("{}/raw --out {}/model.volumen", "is not a run folder"),
        ("{}/second --out {}/model.volumen --which swa", "keeps no swa"),
    ],
)
def test_bundles_that_cannot_be(place, capsys, options, said):
    assert volumen(["bundle", *options.replace("{}", str(place)).split()]) == 2
    assert said in capsys.readouterr().err
    assert not (place / "model.volumen").exists()


def test_select_ranks_all_weights_and_leaves_the_evaluation_alone(place, capsys):
    run = place / "first"
    assert volumen(["evaluate", str(run)]) == 0
    before = (run / "evaluation.json").read_bytes()
    capsys.readouterr()
    assert volumen(["select", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == read_record(run / "selection.json", dict, "")
    assert (run / "evaluation.json").read_bytes() == before
    named = {name for one in printed["candidates"] for name in (one["name"], *one["same_weights"])}
    assert named == {f"first:{which}" for which in ("best", "best_loss", "last", "plain", "average", "swa")}
    assert printed["missing"] == {}
    assert printed["command"].startswith(f"volumen bundle {run} --which ")
    evaluated = json.loads(before)["mean"]["leaderboard"]
    (best,) = (one for one in printed["candidates"] if "first:best" in (one["name"], *one["same_weights"]))
    assert best["score"] == pytest.approx(evaluated)


def test_select_says_what_is_not_there_and_refuses_what_cannot_be_compared(place, tmp_path, capsys):
    out = tmp_path / "selection.json"
    assert volumen(["select", str(place / "second"), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "missing: second:swa" in text
    assert "the same weights as" in text
    assert out.is_file()
    assert volumen(["select", str(place / "first"), str(place / "second")]) == 2
    error = capsys.readouterr().err
    assert "held out different volumes" in error
    assert "fold 1" in error
    assert volumen(["select", str(place / "raw")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert volumen(["select", str(place / "second"), "--out", str(out)]) == 2


def test_a_submission_is_what_the_leaderboard_reads(place, bundle, tmp_path, capsys):
    archive = tmp_path / "submission.zip"
    assert submit(bundle, place, archive) == 0
    assert "read back and checked" in capsys.readouterr().out
    images = sorted((place / "raw" / "test_images").iterdir())
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == [image.name for image in images]
        assert file.testzip() is None
        for image in images:
            mask = tifffile.imread(file.open(image.name))
            assert mask.dtype == np.uint8
            assert mask.shape == tifffile.imread(image).shape
            assert set(np.unique(mask)) == {0, 1}
    record = json.loads((tmp_path / "submission.masks" / "submission.json").read_text())
    assert record["accepted_degenerate"] == []
    assert submit(bundle, place, archive) == 2
    assert "--overwrite" in capsys.readouterr().err
    first = archive.read_bytes()
    assert submit(bundle, place, archive, "--overwrite") == 0
    assert archive.read_bytes() == first  # the same masks are the same bytes


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Edge(0.01, 9.0), "every voxel was predicted to be surface"),
        (Edge(0.01, -9.0), "no surface at all"),
        (Twice(), "a sigmoid was applied to what was already a probability"),
        (Edge(0.0, 9.0), "does not depend on the image"),
    ],
    ids=["all surface", "no surface", "two sigmoids", "constant"],
)
def test_masks_that_say_nothing_are_refused(place, bundle, tmp_path, monkeypatch, capsys, network, said):
    use(monkeypatch, network)
    archive = tmp_path / "submission.zip"
    assert submit(bundle, place, archive) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "was stopped after the first 2 of 3" in error
    assert sorted(image.name for image in (place / "raw" / "test_images").iterdir())[0] in error
    assert not archive.exists()
    assert submit(bundle, place, archive, "--accept-degenerate") == 0
    record = json.loads((tmp_path / "submission.masks" / "submission.json").read_text())
    assert len(record["accepted_degenerate"]) >= 3
    assert "accepted on demand" in capsys.readouterr().out


def test_identical_shares_are_refused_and_one_odd_volume_too(place, bundle, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    volume = tifffile.imread(next((place / "raw" / "test_images").iterdir()))
    for name, image in (("a", volume), ("b", volume[::-1]), ("c", volume[:, ::-1] // 2)):
        tifffile.imwrite(images / f"{name}.tif", image, photometric="minisblack")
    tifffile.imwrite(images / "0.tif", np.zeros_like(volume), photometric="minisblack")
    command = ["submit", str(bundle), str(images), str(tmp_path / "submission.zip"), "--overlap", "0"]
    assert volumen(command) == 2
    error = capsys.readouterr().err
    assert "a.tif, b.tif" in error
    assert "identical surface share" in error
    assert "0.tif" not in error  # an empty scan has an empty mask, and rightly so
    assert not (tmp_path / "submission.zip").exists()


def test_the_time_budget_is_forecast_and_kept(place, bundle, tmp_path, monkeypatch, capsys):
    seconds = iter(range(10**6))
    monkeypatch.setattr(pace, "clock", lambda: float(next(seconds)))
    archive = tmp_path / "submission.zip"
    assert submit(bundle, place, archive, "--time-budget", "50s", "--mirror") == 1
    error = capsys.readouterr().err
    assert "will not do" in error
    assert "1 of 3 volumes are predicted" in error
    assert "--no-mirror, 8 times as fast" in error
    assert "--overlap 0" in error
    assert not archive.exists()
    masks = list((tmp_path / "submission.masks").glob("*.tif"))
    assert len(masks) == 1
    stamp = masks[0].stat().st_mtime_ns
    assert submit(bundle, place, archive) == 2  # other settings: nothing is mixed
    assert "mirror was True, is False" in capsys.readouterr().err
    assert submit(bundle, place, archive, "--mirror", "--time-budget", "1d") == 0
    assert masks[0].stat().st_mtime_ns == stamp  # what was done is not done again
    assert submit(bundle, place, archive, "--overwrite") == 0  # and on demand it begins anew
    assert masks[0].stat().st_mtime_ns != stamp


def test_killed_and_started_again_it_goes_on(place, tmp_path):
    archive, work = tmp_path / "submission.zip", tmp_path / "submission.masks"
    slow = "import time\nfrom volumen.inference import files\nwrite = files.write_mask\n"
    slow += "files.write_mask = lambda *what: (write(*what), time.sleep(0.5))[0]\n"
    code = slow + "from volumen.cli.main import main\nmain()"
    command = [sys.executable, "-c", code, "submit", str(place / "first"), str(place / "raw"), str(archive)]
    command += ["--accept-degenerate"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not list(work.glob("*.tif")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.6)  # the record of the first volume is written right after its mask
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not archive.exists()
    first = sorted(work.glob("*.tif"))[0]
    stamp = first.stat().st_mtime_ns
    assert submit(place / "first", place, archive, "--accept-degenerate") == 0
    assert first.stat().st_mtime_ns == stamp
    with zipfile.ZipFile(archive) as file:
        assert len(file.namelist()) == 3


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_masks_that_changed_since_they_were_made_are_made_anew_and_the_zip_is_the_same(place, bundle, tmp_path, capsys):
    archive, work = tmp_path / "submission.zip", tmp_path / "submission.masks"
    assert submit(bundle, place, archive) == 0
    whole = archive.read_bytes()
    first, second, third = sorted(work.glob("*.tif"))
    swapped = second.read_bytes()
    for happens in (
        lambda: flip(first),
        lambda: first.write_bytes(first.read_bytes()[:-9]),
        lambda: (second.write_bytes(third.read_bytes()), third.write_bytes(swapped)),
        lambda: first.unlink(),
    ):
        happens()
        capsys.readouterr()
        assert submit(bundle, place, archive, "--overwrite") == 0
        assert "is predicted again" in capsys.readouterr().err
        assert archive.read_bytes() == whole
    flip(work / "prediction.json")
    assert submit(bundle, place, archive) == 2  # the zip is there
    assert submit(bundle, place, archive, "--overwrite") == 0  # and without a record all is made anew
    assert archive.read_bytes() == whole


def test_a_mask_that_changes_while_it_is_zipped_is_not_submitted(place, bundle, tmp_path, monkeypatch, capsys):
    archive = tmp_path / "submission.zip"
    write = submission.write_archive

    def late(archive, masks, *rest):
        flip(next(iter(masks.values())))
        write(archive, masks, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(submission, "write_archive", late)
        assert submit(bundle, place, archive) != 0
    assert "is not what was predicted any more" in capsys.readouterr().err
    assert not archive.exists()
    assert submit(bundle, place, archive) == 0


def test_an_image_that_changes_is_predicted_again_and_an_image_that_changes_meanwhile_is_told(
    place, bundle, tmp_path, monkeypatch, capsys
):
    images = tmp_path / "images"
    shutil.copytree(place / "raw" / "test_images", images)
    archive = tmp_path / "submission.zip"
    command = ["submit", str(bundle), str(images), str(archive), "--overwrite"]
    assert volumen(command) == 0
    one = sorted(images.iterdir())[0]
    tifffile.imwrite(one, tifffile.imread(one)[::-1], photometric="minisblack")
    capsys.readouterr()
    assert volumen(command) == 0
    assert f"{one.name} is predicted again: the image is not the one" in capsys.readouterr().err

    predict = submission.predict_files

    def late(*arguments, **named):
        tifffile.imwrite(one, tifffile.imread(one)[:, ::-1], photometric="minisblack")
        return predict(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(submission, "predict_files", late)
        assert volumen(command) == 2
    assert "was changed while the images were predicted" in capsys.readouterr().err


def test_one_submission_at_a_time(place, bundle, tmp_path, capsys):
    archive = tmp_path / "submission.zip"
    for kind in ("submit", "predict"):
        with hold(tmp_path / "submission.masks", kind):
            assert submit(bundle, place, archive) == 2
            assert "is in use by" in capsys.readouterr().err
    assert not archive.exists()


@pytest.mark.parametrize("where", ["masks", "zip"])
def test_a_full_disk_is_told_and_leaves_no_zip(place, bundle, tmp_path, monkeypatch, capsys, where):
    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    archive = tmp_path / "submission.zip"
    with monkeypatch.context() as patch:
        if where == "masks":
            patch.setattr(volumes.tifffile, "imwrite", full)
        else:
            patch.setattr(zipfile.ZipFile, "writestr", full)
        assert submit(bundle, place, archive) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert not archive.exists()
    assert not list(tmp_path.glob("**/.partial*"))
    assert submit(bundle, place, archive) == 0


def test_a_zip_that_does_not_read_back_is_not_kept(place, bundle, tmp_path, monkeypatch, capsys):
    write = zipfile.ZipFile.writestr

    archive = tmp_path / "submission.zip"
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", lambda self, member, data: write(self, "other.tif", data))
        patch.setattr("warnings.warn", lambda *arguments, **named: None)  # zipfile's own, of a name that comes twice
        assert submit(bundle, place, archive) == 1
    error = capsys.readouterr().err
    assert "is missing" in error
    assert "'other.tif' is not one of the images" in error
    assert not archive.exists()
    assert submit(bundle, place, archive) == 0


def test_damage_and_places_that_do_not_do(place, bundle, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    whole = next((place / "raw" / "test_images").iterdir())
    shutil.copy(whole, images / "a.tif")
    (images / "b.tif").write_bytes(whole.read_bytes()[:3000])
    archive = tmp_path / "submission.zip"
    assert volumen(["submit", str(bundle), str(images), str(archive)]) == 2
    error = capsys.readouterr().err
    assert "1 of 2 test images cannot be used" in error
    assert "b.tif" in error
    damaged = tmp_path / "damaged.volumen"
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 16
    damaged.write_bytes(content)
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    for source, target, options, said in (
        (damaged, archive, [], "damaged"),
        (bundle, tmp_path / "file" / "submission.zip", [], "cannot be written to"),
        (bundle, tmp_path / "submission.tar", [], "must end in .zip"),
        (bundle, tmp_path / "none.volumen", [], "must end in .zip"),
        (tmp_path / "none.volumen", archive, [], "there is no bundle"),
        (tmp_path / "none", archive, [], "is not a run folder"),
        (bundle, archive, ["--work", str(tmp_path / "foreign")], "no submission put there"),
        (bundle, archive, ["--time-budget", "soon"], "is not a duration"),
    ):
        assert submit(source, place, target, *options) == 2
        assert said in capsys.readouterr().err, said
    assert not archive.exists()
    assert (tmp_path / "foreign" / "notes.txt").read_text() == "mine"


def test_a_bundle_of_unknown_labels_and_members_of_different_tiles(place, tmp_path, capsys):
    variant(place, "third", {"data": {"patch": [16, 16, 32]}})
    runs = [str(place / "first"), str(place / "third"), "--out", str(tmp_path / "model.volumen")]
    assert volumen(["bundle", *runs]) == 2
    assert "by different tiles" in capsys.readouterr().err
    assert volumen(["bundle", *runs, "-o", "inference.tile=[16, 16, 16]"]) == 0
    made = read_bundle(tmp_path / "model.volumen")
    bare = tmp_path / "bare.volumen"
    write_bundle(
        bare, [Member("x", made.config, made.members[0].weights, 1.0)], mean="logit", config=made.config, labels={}
    )
    assert volumen(["predict", str(bare), str(place / "raw" / "test_images"), str(tmp_path / "masks")]) == 0


def test_volumes_side_by_side_and_boxes_are_the_same_voxels(place, tmp_path):
    images = place / "raw" / "test_images"
    plain = ["predict", str(place / "first"), str(images)]
    settings = ["-o", "postprocessing.steps=[{kind: threshold}]", "-o", "inference.engine=torch"]
    assert volumen([*plain, str(tmp_path / "one"), *settings]) == 0
    assert volumen([*plain, str(tmp_path / "two"), *settings, "--parallel", "2"]) == 0
    assert volumen([*plain, str(tmp_path / "two"), *settings, "--parallel", "2", "--resume"]) == 0
    assert volumen([*plain, str(tmp_path / "box"), *settings, "--region", "2:9,:,3:"]) == 0
    for image in images.iterdir():
        whole = read_volume(tmp_path / "one" / image.name)
        assert np.array_equal(read_volume(tmp_path / "two" / image.name), whole)
        assert np.array_equal(read_volume(tmp_path / "box" / image.name), whole[2:9, :, 3:])
    one, two = (json.loads((tmp_path / name / "prediction.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert volumen([*plain, str(tmp_path / "bad"), *settings, "--region", "2:9,:"]) == 2
    assert volumen([*plain, str(tmp_path / "bad"), *settings, "--region", "2:900,:,:"]) == 2
    assert volumen([*plain, str(tmp_path / "plan"), "--postprocessing", "plan"]) == 0
    used = json.loads((tmp_path / "plan" / "prediction.json").read_text())["settings"]["postprocessing"]
    assert [step["kind"] for step in used["steps"]] == ["threshold", "close", "fill_holes", "remove_small_components"]


@pytest.mark.parametrize(("labels", "told"), [((0.9, 0.95), True), ((0.0, 1.0), False)])
def test_tuning_tells_of_masks_that_no_label_resembles(place, tmp_path, capsys, monkeypatch, labels, told):
    monkeypatch.setattr(tuned_runs, "label_shares", lambda dataset: labels)
    runs = [str(place / "first"), str(place / "second")]
    assert volumen(["tune", *runs, "--out", str(tmp_path / "tuned"), "--trials", "4"]) == 0
    assert ("whatever the score says" in capsys.readouterr().err) == told


def test_tuning_two_runs_writes_what_a_bundle_takes(place, tmp_path, capsys):
    out = tmp_path / "tuned"
    command = ["tune", str(place / "first"), str(place / "second"), "--out", str(out), "--trials", "4"]
    assert volumen(command) == 0
    text = capsys.readouterr().out
    assert "the search did not see" in text
    result = json.loads((out / "tuning.json").read_text())
    assert set(result["scores"]) == {"own", "raw", "threshold", "tuned", "final"}
    assert result["advised"] == "own"  # two volumes do not tell
    assert "keep what you have" in text
    assert "to use" not in text
    assert f"next: volumen ensemble {place / 'first'} {place / 'second'} --out model.volumen\n" in text
    made = tmp_path / "tuned.volumen"
    runs = [str(place / "first"), str(place / "second")]
    assert volumen(["bundle", *runs, "--out", str(made), "--postprocessing", str(out / "postprocessing.yaml")]) == 0
    assert read_bundle(made).config.postprocessing.model_dump(mode="json") == result["to_use"]
    assert volumen([*command, "-o", "inference.overlap=0.0"]) == 2  # other predictions: another folder
    assert "choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["tune", "first", "second", "--trials", "3"], "--trials must be at least 4"),
        (["ensemble", "first", "apart"], "no volume was held out by all of first, apart"),
        (["ensemble", "first", "wide", "-o", "inference.mirror=false"], "by different tiles"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_volume_is_predicted(
    place, tmp_path, monkeypatch, capsys, command, said
):
    if not (place / "wide").exists():
        variant(place, "apart", {"data": {"fold": 1}, "optimiser": {"learning_rate": 0.02}})
        variant(place, "wide", {"data": {"patch": [16, 16, 32]}})
    monkeypatch.setattr(Recipe, "of_case", lambda *arguments: pytest.fail("a volume was predicted"))
    words = [str(place / word) if (place / word).is_dir() else word for word in command]
    assert volumen([*words, "--out", str(tmp_path / "model.volumen")]) == 2
    assert said in capsys.readouterr().err


def test_one_held_out_volume_changes_nothing_and_needs_no_prediction(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Recipe, "of_case", lambda *arguments: pytest.fail("a volume was predicted"))
    assert volumen(["tune", str(place / "first"), "--trials", "4", "--out", str(tmp_path / "tuned")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "keep what you have: one held-out volume cannot tell what gains" in text
    assert f"next: volumen ensemble {place / 'first'} --out model.volumen" in text
    own = load_postprocessing(str(tmp_path / "tuned" / "postprocessing.yaml"))
    assert own == run_config(place / "first").postprocessing


def test_an_ensemble_of_folds_and_of_kinds_of_weights(place, tmp_path, capsys):
    runs, out = [str(place / "first"), str(place / "second")], tmp_path / "both.volumen"
    assert volumen(["ensemble", *runs, "--out", str(out)]) == 0
    assert "held-out volumes" in capsys.readouterr().out
    assert len(read_bundle(out).members) == 2
    assert volumen(["ensemble", *runs, "--out", str(out)]) == 2
    assert volumen(["ensemble", runs[0], f"{runs[0]}:plain", "--out", str(tmp_path / "kinds.volumen")]) == 0
    assert [one.name for one in read_bundle(tmp_path / "kinds.volumen").members] == ["first (best)", "first (plain)"]


def test_a_search_that_is_killed_goes_on_and_scores_nothing_twice(place, tmp_path):
    out = tmp_path / "tuned"
    arguments = ["tune", str(place / "first"), str(place / "second"), "--out", str(out), "--trials", "8"]
    code = "from volumen.cli.main import main\nmain()"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while sum(len(file.read_text().splitlines()) for file in out.glob("scores/*.jsonl")) < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "tuning.json").exists()
    assert volumen(arguments) == 0
    keys = [json.loads(line)["key"] for file in out.glob("scores/*.jsonl") for line in file.read_text().splitlines()]
    assert len(keys) == len(set(keys))
    searches = json.loads((out / "tuning.json").read_text())["searches"]
    assert [one["trials"] for one in searches] == [8] * 3


@pytest.mark.parametrize("command", ["predict", "tune"])
def test_a_full_disk_under_other_commands_says_how_to_go_on(place, tmp_path, monkeypatch, capsys, command):
    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    run, images, out = str(place / "first"), str(place / "raw" / "test_images"), tmp_path / "out"
    arguments = {
        "predict": ["predict", run, images, str(out)],
        "tune": ["tune", run, str(place / "second"), "--out", str(out), "--trials", "4"],
    }[command]
    with monkeypatch.context() as patch:
        if command == "predict":
            patch.setattr(volumes.tifffile, "imwrite", full)
        else:
            patch.setattr(held_out, "write_atomically", full)
        assert volumen(arguments) == 1
    assert "make room" in capsys.readouterr().err
    assert not [path for path in out.rglob("*") if path.suffix in (".tif", ".npy") or path.name.startswith(".partial")]
    assert volumen([*arguments, *(["--resume"] if command == "predict" else [])]) == 0
