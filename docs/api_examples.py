"""An example of each public name, in an order in which they run one after the other in an empty folder.

`docs/api.md` shows their bodies; `tests/integration/test_api_examples.py` runs them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import volumen

SMALL = {
    "data.dataset": "prepared",
    "data.patch": [32, 32, 32],
    "data.sampling.patches_per_epoch": 8,
    "data.workers": 0,
    "model.filters": 2,
    "model.depth": 2,
    "training.epochs": 3,
}


def phantom() -> None:
    folder = volumen.phantom("scrolls", volumes=3, size=40, scrolls=1, seed=2)
    assert (folder / "train.csv").is_file()


def prepare() -> None:
    prepared = volumen.prepare("scrolls", "prepared")
    assert [case.shape for case in prepared.cases] == 3 * [(40, 40, 40)]


def prepared_dataset() -> None:
    prepared = volumen.PreparedDataset.open("prepared")
    image = prepared.image("10001")  # grey values [Z, Y, X], read when they are looked at
    label = prepared.label("10001")  # 0 background, 1 surface, 2 ignore
    assert image.shape == label.shape


def folds() -> None:
    divided = volumen.folds("prepared", 3)
    assert len(divided.folds[0].validation) == 1


def preset_names() -> None:
    assert "default" in volumen.preset_names()


def load_config() -> None:
    loaded = volumen.load_config("preset:default", ["training.epochs=3"])
    assert loaded.origins["training.epochs"] == "override"


def config() -> None:
    settings: volumen.Config = volumen.load_config("preset:default").config
    assert settings.data.patch == (64, 64, 64)


def audit() -> None:
    found = volumen.audit("preset:default", SMALL, only=["P1"])
    for finding in found.findings:
        print(finding.code, finding.severity, finding.title)


def audit_report() -> None:
    found: volumen.AuditReport = volumen.audit("preset:default", SMALL, only=["P1"])
    assert found.refusals(accepted=("P1",)) == ()


def audit_code() -> None:
    import torch

    label = torch.zeros(2, 1, 16, 16, 16)
    label[:, :, 5:8] = 1
    found = volumen.audit_code(
        model=torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Sigmoid()),
        loss=torch.nn.BCEWithLogitsLoss(),
        batches=[(label + 0.3 * torch.randn(label.shape), label)],
    )
    print(found.findings[0].title)  # the network ends in an activation, and the loss has another


def code_report() -> None:
    found: volumen.CodeReport = volumen.audit_code(loss=lambda output, target: -output.mean(), classes=1)
    assert found.stops
    found.write_page("code.html")


def train() -> None:
    outcome = volumen.train("preset:default", "runs/small", SMALL)
    assert outcome.state == "finished"


def outcome() -> None:
    ended: volumen.Outcome = volumen.train("runs/small/config.yaml", "runs/small", {"training.epochs": 4}, resume=True)
    print(f"best metric {ended.best_metric:.3f} in epoch {ended.best_epoch + 1} of {ended.epochs}")


def records() -> None:
    columns = volumen.records("runs/small", "train")
    assert columns["epoch"] == [0, 1, 2, 3]
    assert all(loss > 0 for loss in columns["terms.soft_dice"])


def records_class() -> None:
    columns: volumen.Records = volumen.records("runs/small", "validation")
    print(*columns)  # names; columns.to_pandas() makes a data frame where pandas is installed


def plan() -> None:
    forecast = volumen.plan("preset:default", SMALL, batches=[4])
    print(forecast.to_dict())


def train_folds() -> None:
    summary = volumen.train_folds("preset:default", SMALL, folds="0-1", out="runs/folds")
    assert [one.state for one in summary.folds] == ["scored", "scored"]


def compare() -> None:
    found = volumen.compare(["runs/small", "runs/folds/fold1"], metric="dice", quick=True)
    assert len(found.told) == 2


def sweep() -> None:
    Path("space.yaml").write_text("optimiser.learning_rate: {from: 1e-4, to: 1e-2, log: true}\n", encoding="utf-8")
    found = volumen.sweep("preset:default", "space.yaml", SMALL, trials=2, epochs=1, out="sweeps/small")
    print(found.recommended, [entry.parameters for entry in found.complete])


def evaluate() -> None:
    evaluation = volumen.evaluate("runs/small", {"postprocessing.steps": [{"kind": "threshold"}]})
    assert 0 <= evaluation.mean["leaderboard"] <= 1


def evaluation() -> None:
    found: volumen.Evaluation = volumen.evaluate("runs/small", keep=False)
    for case in found.cases:
        print(case.id, case.values["leaderboard"], case.values["dice"])


def report() -> None:
    page = volumen.report("runs/small")
    assert page.name == "report.html"


def load() -> None:
    model = volumen.load("runs/small", {"inference.mirror": True})
    mask = model.predict(volumen.PreparedDataset.open("prepared").image("10001"))
    assert mask.dtype == np.uint8


def model() -> None:
    network: volumen.Model = volumen.load("runs/small")
    probabilities = network.probabilities(np.zeros((40, 40, 40), np.uint8))
    assert probabilities.max() < 0.001  # the scan holds nothing


def make_mask() -> None:
    probabilities = np.zeros((64, 64, 64), np.float32)
    probabilities[30:34] = 0.9
    probabilities[10, 10, 10] = 0.9  # a speck
    mask = volumen.make_mask(probabilities, [{"kind": "threshold"}, {"kind": "remove_small_components"}])
    assert mask.sum() == 4 * 64 * 64


def leaderboard() -> None:
    truth = np.zeros((64, 64, 64), np.uint8)
    truth[30:34] = 1
    assert round(volumen.leaderboard(truth, truth).score, 9) == 1


def leaderboard_score() -> None:
    truth = np.zeros((64, 64, 64), np.uint8)
    truth[30:34] = 1
    holed = truth.copy()
    holed[:, 10, 10] = 0
    found: volumen.LeaderboardScore = volumen.leaderboard(holed, truth)
    assert found.topo.f1[1] is not None  # F1 of components, tunnels and cavities; None where neither has any
    print(found.score, found.topo.score, found.surface_dice, found.voi.split, found.voi.merge)


def leaderboard_curve() -> None:
    truth = np.zeros((64, 64, 64), np.uint8)
    truth[30:34] = 1
    curve = volumen.leaderboard_curve(truth * 0.8, truth, [0.5, 0.7, 0.9])
    assert curve.best.threshold < 0.8


def overlap() -> None:
    truth = np.zeros((64, 64, 64), np.uint8)
    truth[30:34] = 1
    assert volumen.overlap(np.ones_like(truth), truth).precision == 4 / 64


def surface_dice() -> None:
    truth = np.zeros((64, 64, 64), np.uint8)
    truth[30:34] = 1
    assert volumen.surface_dice(np.roll(truth, 2, axis=0), truth, tolerance=2.0) == 1.0


def topo_score() -> None:
    truth = np.zeros((64, 64, 64), np.uint8)
    truth[30:34] = 1
    holed = truth.copy()
    holed[:, 10, 10] = 0
    assert volumen.topo_score(holed, truth).score < 1  # one tunnel too many


def voi_score() -> None:
    truth = np.zeros((64, 64, 64), np.uint8)
    truth[30:34] = 1
    assert volumen.voi_score(np.roll(truth, 2, axis=0), truth).score < 0.9


def user_error() -> None:
    try:
        volumen.load("runs/elsewhere")
    except volumen.UserError as error:
        print(error)  # what is wrong, where, and how to mend it


PAGE: dict[str, dict[str, Callable[[], None]]] = {
    "Data": {"phantom": phantom, "prepare": prepare, "PreparedDataset": prepared_dataset, "folds": folds},
    "Configuration": {"preset_names": preset_names, "load_config": load_config, "Config": config},
    "Training": {
        "audit": audit,
        "AuditReport": audit_report,
        "plan": plan,
        "audit_code": audit_code,
        "CodeReport": code_report,
        "train": train,
        "Outcome": outcome,
        "records": records,
        "Records": records_class,
    },
    "Experiments": {"train_folds": train_folds, "compare": compare, "sweep": sweep},
    "Evaluation": {"evaluate": evaluate, "Evaluation": evaluation, "report": report},
    "Prediction": {"load": load, "Model": model, "make_mask": make_mask},
    "Metrics": {
        "leaderboard": leaderboard,
        "LeaderboardScore": leaderboard_score,
        "leaderboard_curve": leaderboard_curve,
        "overlap": overlap,
        "surface_dice": surface_dice,
        "topo_score": topo_score,
        "voi_score": voi_score,
    },
    "Errors": {"UserError": user_error},
}
"""Sections of the page, and the example of each name in them."""
