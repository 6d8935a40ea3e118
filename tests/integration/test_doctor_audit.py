"""The audit on a healthy run, which leaves it in peace, and on runs with one mistake each, which it names."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from volumen.cli.main import run as volumen
from volumen.config.inheritance import preset_names
from volumen.config.load import load_config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.data.volumes import read_volume
from volumen.doctor.audit import CHECKS, run_audit
from volumen.doctor.context import open_context
from volumen.doctor.findings import Severity
from volumen.inference.files import write_mask
from volumen.phantoms.scrolls import write_phantom_dataset

ONLY = ("--only", "P3", "--only", "P6")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "raw"
    write_phantom_dataset(folder, volumes=4, shape=(64, 64, 64), scrolls=2, seed=5)
    return folder


@pytest.fixture(scope="module")
def prepared(raw) -> Path:
    out = raw.parent / "prepared"
    assert volumen(["prepare", str(raw), "--out", str(out)]) == 0
    assert volumen(["folds", str(out)]) == 0
    return out


def findings(prepared: Path, *overrides: str, preset: str = "default", as_run: bool = False, only: str = ""):
    """Of the whole audit, or of some checks where others have nothing to do with it."""
    loaded = load_config(f"preset:{preset}", [f"data.dataset={prepared}", *overrides])
    return run_audit(open_context(loaded, as_run=as_run), only=tuple(only.split())).findings


def grave(found) -> list[str]:
    return [finding.code for finding in found if finding.severity != Severity.note]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_run_is_left_in_peace(prepared, seed) -> None:
    found = findings(prepared, f"seed={seed}")
    assert grave(found) == [], [finding.evidence for finding in found]


@pytest.fixture(scope="module", params=["semi", "ovules"])
def real(request, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("real") / request.param
    prepare(request.getfixturevalue(request.param), out, accept_proposal=True)
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_run_on_real_volumes_is_left_in_peace(real, seed) -> None:
    found = findings(real, f"seed={seed}")
    assert grave(found) == [], [finding.evidence for finding in found]


@pytest.mark.parametrize(
    ("declared", "stops"),
    [("2: ignore, 3: ignore", True), ("2-9: ignore", False), ("others: ignore", False)],
)
def test_many_values_of_one_meaning_are_declared_by_a_range(raw, tmp_path, declared, stops) -> None:
    (tmp_path / "meanings.yaml").write_text(f"labels: {{0: background, 1: surface, {declared}}}\n")
    out, meanings = tmp_path / "prepared", str(tmp_path / "meanings.yaml")
    assert volumen(["prepare", str(raw), "--out", str(out), "--meanings", meanings]) == 0
    assert ("P1" in [finding.code for finding in findings(out, only="P1")]) == stops


def test_unlabelled_voxels_taken_for_surface_are_seen(raw, tmp_path) -> None:
    meanings = tmp_path / "wrong.yaml"
    meanings.write_text("labels: {0: background, 1: surface, 2: surface}\n")
    out = tmp_path / "wrong"
    assert volumen(["prepare", str(raw), "--out", str(out), "--meanings", str(meanings)]) == 0
    found = findings(out)
    assert (found[0].code, found[0].severity) == ("P1", Severity.stop)
    assert "1 and 2 are both taken for surface" in found[0].title
    assert "P2" in grave(found)


def test_unlabelled_voxels_taken_for_background_are_seen(raw, tmp_path) -> None:
    meanings = tmp_path / "wrong.yaml"
    meanings.write_text("labels: {0: background, 1: surface, 2: background}\n")
    out = tmp_path / "wrong"
    assert volumen(["prepare", str(raw), "--out", str(out), "--meanings", str(meanings)]) == 0
    found = findings(out)
    assert found[0].code == "P1"
    assert "0 and 2 are both taken for background" in found[0].title


def test_an_unreachable_criterion_is_refused_with_the_numbers(prepared) -> None:
    found = findings(prepared, preset="v5_variance_focused", only="P5")
    (variance,) = [finding for finding in found if "loss.variance" in finding.title]
    assert (variance.code, variance.severity) == ("P5", Severity.stop)
    assert "0.56" in variance.evidence
    assert "v5_variance_focused" in variance.where


def test_a_criterion_that_a_constant_meets_is_refused(prepared) -> None:
    criterion = 'experiment.criteria=[{"quantity": "validation_loss", "at_most": 1.6}]'
    found = findings(prepared, criterion, only="P4 P5")
    assert found[0].code == "P4"
    sound = 'experiment.criteria=[{"quantity": "validation_loss", "at_most": 0.6}]'
    assert grave(findings(prepared, sound, only="P4 P5")) == []


def test_class_weights_against_the_intent_are_named_with_their_direction(prepared) -> None:
    weights = ("loss.class_weights.enabled=true", "loss.class_weights.surface=5.0", "experiment.intent=less_surface")
    found = findings(prepared, *weights, only="P3 P4 P5")
    assert (found[0].code, found[0].severity) == ("P3", Severity.stop)
    assert "push towards more surface, the intent is less surface" in found[0].title
    other_way = (weights[0], "loss.class_weights.background=1.5", "experiment.intent=less_surface")
    assert "P3" not in grave(findings(prepared, *other_way, only="P3"))


def test_the_plans_class_weights_push_the_wrong_way(prepared) -> None:
    for preset in ("v2_precision", "v3_aggressive_precision", "v4_aggressive_focal"):
        assert ("P3", Severity.stop) in [
            (finding.code, finding.severity) for finding in findings(prepared, preset=preset, only="P3")
        ]


def test_what_really_ran_is_audited_on_request(prepared) -> None:
    as_written = [finding.evidence for finding in findings(prepared, preset="v5_variance_focused", only="P5")]
    as_run = [finding.evidence for finding in findings(prepared, preset="v5_variance_focused", as_run=True, only="P5")]
    assert as_written != as_run


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["training.early_stopping.patience=50", "training.epochs=50"], "training.early_stopping.patience"),
        (["training.weight_noise.start_epoch=50", "training.epochs=50"], "training.weight_noise.start_epoch"),
        (["training.swa.start_epoch=60", "training.epochs=50"], "training.swa.start_epoch"),
        (["schedule.kind=plateau", "schedule.patience=999"], "schedule.patience"),
        (["schedule.kind=cosine_warm_restarts", "schedule.period_epochs=300"], "schedule.period_factor"),
        (["loss.class_weights.surface=3.0"], "loss.class_weights.enabled"),
    ],
)
def test_settings_that_can_never_act_are_named(prepared, overrides, key) -> None:
    found = findings(prepared, *overrides, only="P6")
    assert (found[0].code, found[0].where.split(" ")[0]) == ("P6", key)


def test_scrolls_on_both_sides_of_a_fold_are_seen(prepared, tmp_path) -> None:
    folds = make_folds(PreparedDataset.open(prepared), 4, "volume")[0]
    save_folds(folds, tmp_path / "folds.json")
    found = findings(prepared, f"data.folds={tmp_path / 'folds.json'}", only="P7")
    assert grave(found) == ["P7"]
    assert "share scrolls" in found[0].title


def test_a_volume_that_is_there_twice_is_seen(raw, tmp_path) -> None:
    copy = tmp_path / "raw"
    for part in ("train_images", "train_labels"):
        (copy / part).mkdir(parents=True)
    rows = ["id,scroll_id"]
    for number, image in enumerate(sorted((raw / "train_images").iterdir())[:2]):
        for twin in range(2):
            name = f"{number}{twin}.tif"
            (copy / "train_images" / name).write_bytes(image.read_bytes())
            (copy / "train_labels" / name).write_bytes((raw / "train_labels" / image.name).read_bytes())
            rows.append(f"{number}{twin},scroll{twin}")
    (copy / "train.csv").write_text("\n".join(rows) + "\n")
    assert volumen(["prepare", str(copy), "--out", str(tmp_path / "p"), "--accept-proposal"]) == 0
    found = findings(tmp_path / "p", only="P7")
    assert (found[0].code, found[0].severity) == ("P7", Severity.stop)
    assert "is in the training part as" in found[0].title


def relabelled(raw: Path, folder: Path, change) -> Path:
    """The data set with other labels: `change` makes them of all labels in the order of their names."""
    for part in ("train_images", "train_labels"):
        (folder / part).mkdir(parents=True)
    names = sorted(path.name for path in (raw / "train_labels").iterdir())
    for name, label in zip(names, change([read_volume(raw / "train_labels" / name) for name in names]), strict=True):
        (folder / "train_images" / name).write_bytes((raw / "train_images" / name).read_bytes())
        write_mask(folder / "train_labels" / name, label)
    (folder / "train.csv").write_bytes((raw / "train.csv").read_bytes())
    assert volumen(["prepare", str(folder), "--out", str(folder / "prepared"), "--accept-proposal"]) == 0
    return folder / "prepared"


@pytest.mark.parametrize(("axis", "shift"), [(0, 8), (1, -8), (2, 6)])
def test_labels_that_are_shifted_are_seen(raw, tmp_path, axis, shift) -> None:
    out = relabelled(raw, tmp_path, lambda labels: [np.roll(label, shift, axis) for label in labels])
    first = findings(out, only="P7")[0]
    assert (first.code, first.severity) == ("P7", Severity.stop)
    assert "shifted against their images" in first.title


def test_labels_of_other_volumes_are_seen(raw, tmp_path) -> None:
    out = relabelled(raw, tmp_path, lambda labels: [*labels[1:], labels[0]])
    assert "labels have next to nothing to do with their images" in [one.title for one in findings(out, only="P7")]


def test_the_command_prints_findings_json_and_the_autopsy(prepared, raw, capsys) -> None:
    assert volumen(["audit", "preset:default", "--data", str(prepared)]) == 0
    assert "nothing found" in capsys.readouterr().out
    bad = ["audit", "preset:default", "--data", str(prepared), "-o", "loss.class_weights.surface=3.0", *ONLY]
    assert volumen([*bad, "--json"]) == 0  # a warning does not stop a run
    (record,) = json.loads(capsys.readouterr().out)
    assert list(record) == ["code", "severity", "title", "evidence", "causes", "remedies", "where"]
    stopped = [*bad, "-o", "loss.class_weights.enabled=true", "-o", "experiment.intent=less_surface"]
    assert volumen(stopped) == 2
    assert volumen([*stopped, "--accept", "P3"]) == 0
    capsys.readouterr()
    assert volumen(["audit", "loss", "preset:v1_balanced", "--data", str(raw), "--as-run"]) == 0
    text = capsys.readouterr().out
    assert "variance" in text
    assert "The sum's own optimum" in text
    assert volumen(["audit", "preset:default", "preset:plan"]) == 2
    assert volumen(["audit", "preset:default", "--data", str(prepared), "--as-run"]) == 2


def test_every_check_is_explained() -> None:
    """Its section of the page says how the fault shows, why it happens, how it is measured and what to do."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (P\d+: .*)\n((?:(?!## ).*\n)*)", page, re.M))
    assert list(sections) == [f"{code}: {check.title}" for code, check in CHECKS.items()]
    assert [check.code for check in CHECKS.values()] == list(CHECKS)
    for text in sections.values():
        parts = re.findall(r"\*\*(.*?)\*\* (.+)", text)
        assert [name for name, _ in parts] == ["Symptom.", "Why.", "How it is measured.", "What to do."]
        assert all(len(words) > 10 for _, words in parts)


def test_every_preset_loads() -> None:
    plan = {
        "v1_balanced", "v2_precision", "v3_aggressive_precision", "v2_optimized", "v4_aggressive_focal",
        "v5_variance_focused", "gpu_batch8", "aggressive_escape", "conservative", "combo", "dice_only", "curriculum",
    }  # fmt: skip
    assert plan <= set(preset_names())
    for name in plan:
        config = load_config(f"preset:{name}").config
        assert config.name == name
        assert config.experiment.hypothesis
        assert config.experiment.expected


def test_a_term_that_a_constant_minimises_is_noted_and_alone_it_stops(prepared) -> None:
    noted = findings(prepared, "loss.terms.medial_recall.weight=0.5", only="P4")
    assert [(one.code, one.severity) for one in noted] == [("P4", Severity.note)]
    assert "medial_recall" in noted[0].title
    alone = ("loss.terms={medial_recall: {weight: 1.0}, cross_entropy: {weight: 0.0}, soft_dice: {weight: 0.0}}",)
    stopped = [one for one in findings(prepared, *alone, only="P4") if one.code == "P4"]
    assert stopped[0].severity == Severity.stop
    assert "for the objective" in stopped[0].title


def test_the_autopsy_is_written_as_a_page(prepared, tmp_path, capsys) -> None:
    page = tmp_path / "new" / "loss.html"
    assert volumen(["audit", "loss", "preset:combo", "--data", str(prepared), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 4  # a slice of each label patch
    for part in ("Operating point", "soft_dice", "focal", "best constant", "Optimum of the objective: Dice 1.000"):
        assert part in text
    assert "http" not in text.replace("http-equiv", "")
    assert "written: " in capsys.readouterr().out
