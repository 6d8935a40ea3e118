"""What must hold on a card: the same network as on the CPU, runs that resume bit for bit, and checkpoints that cross.

Run by `pytest -m cuda`, which the one test without that mark calls where there is a card.
"""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from tests.conftest import ALL_CARDS, CARDS, SHOWN

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.config.model import ResEncModel, UNetModel
from volumen.config.schema import Config
from volumen.inference.predictor import Predictor
from volumen.models import build_model, set_plain
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runtime import Precision
from volumen.training.loop import run_training
from volumen.training.objective import build_objective

ROOT = Path(__file__).resolve().parents[2]
TYPES = {"fp32": (1e-4, 2e-3), "fp16": (2e-2, 2e-1), "bf16": (1e-1, 6e-1)}
"""Relative error (Euclidean) of logits and of the gradient that is the type's own, with room."""
CARD, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.timeout(900)
def test_on_a_machine_with_a_card_what_needs_it_passes() -> None:
    shown = {name: value for name, value in os.environ.items() if name not in (CARDS, SHOWN)}
    if os.environ[SHOWN] != ALL_CARDS:
        shown[CARDS] = os.environ[SHOWN]
    if torch.version.cuda is None:
        pytest.skip("this PyTorch knows no CUDA")
    asked = [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    if subprocess.run(asked, env=shown, check=False).returncode:
        pytest.skip("PyTorch sees no CUDA device")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", "tests"]
    found = subprocess.run(command, env=shown, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-6000:]


@pytest.fixture
def exact_types() -> Iterator[None]:
    """No TF32, and algorithms that add in one order."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = False, False, True
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = before


def passed(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], device: torch.device, precision: Precision | None):
    """Logits, loss and gradient of a copy, float64 on the CPU; without a precision all of it is float64."""
    made, (image, target) = copy.deepcopy(model), batch
    if precision is None:
        set_plain(made)
        made, image = made.double(), image.double()
        levels = made(image)
    else:
        layout = precision.memory_format
        made = made.to(device=device, memory_format=layout)
        with precision.autocast():
            levels = made(image.to(device=device, memory_format=layout))
    target = target.to(device)
    loss = build_objective(load_config("preset:default").config.loss, 0)(levels, target, torch.ones_like(target) > 0)
    scale = 4096.0 if precision is not None and precision.name == "fp16" else 1.0
    (loss.total * scale).backward()
    finest = levels[0] if isinstance(levels, list) else levels
    gradient = torch.cat([(one.grad.double() / scale).cpu().flatten() for one in made.parameters()])
    return finest.detach().double().cpu(), float(loss.total.detach()), gradient


@pytest.mark.cuda
@pytest.mark.usefixtures("exact_types")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("model", "shape"),
    [(UNetModel(filters=8, depth=2), (3, 20, 12, 28)), (UNetModel(filters=5, depth=3), (1, 16, 24, 40)),
     (ResEncModel(size="S"), (2, 16, 24, 32))],
    ids=["unet", "odd unet", "resenc"],
)  # fmt: skip
def test_logits_loss_and_gradient_are_those_of_the_cpu(kind: Any, model: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(len(kind) + shape[-1])
    made = build_model(model, prior=0.1).train()
    target = (torch.rand(shape) < 0.1).to(torch.uint8)
    batch = (torch.randn(shape[0], 1, *shape[1:]) + target[:, None], target)
    logits, loss, gradient = passed(made, batch, CPU, None)
    found_logits, found_loss, found_gradient = passed(made, batch, CARD, Precision(kind, "cuda"))
    of_logits, of_gradient = TYPES[kind]
    assert float((found_logits - logits).norm() / logits.norm()) < of_logits
    assert abs(found_loss / loss - 1) < of_logits
    assert float((found_gradient - gradient).norm() / gradient.norm()) < of_gradient


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder / "raw", volumes=3, shape=(32, 32, 40), scrolls=1, seed=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "3"]) == 0
    return folder / "prepared"


def configuration(prepared: Path, *overrides: str) -> Config:
    settings = [f"data.dataset={prepared}", "data.patch=[16, 16, 16]", "data.sampling.patches_per_epoch=6",
                "data.workers=0", "model.filters=4", "model.depth=2", "training.epochs=3", "device=cuda",
                "training.validate_every_epochs=1", "postprocessing.steps=[{kind: threshold}]"]  # fmt: skip
    return load_config("preset:default", [*settings, *overrides]).config


class StopAt(SilentDisplay):
    """Asks the run to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def tensors(run: Path, part: str = "model") -> dict[str, torch.Tensor]:
    return open_run(run).checkpoints.load_latest(pytest.fail)[part]


@pytest.mark.cuda
@pytest.mark.usefixtures("exact_types")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", ["{kind: unet, filters: 4, depth: 2}", "{kind: resenc, size: S}"])
def test_a_run_repeats_itself_and_a_resumed_one_equals_it_bit_for_bit(prepared, tmp_path, precision, model) -> None:
    """On one machine, with cuDNN told to be deterministic."""
    config = configuration(prepared, f"precision={precision}", f"model={model}")
    for name in ("one", "two"):
        run_training(config, tmp_path / name, SilentDisplay())
    assert run_training(config, tmp_path / "parts", StopAt(4)).state == "stopped"
    assert run_training(config, tmp_path / "parts", SilentDisplay(), resume=True).state == "finished"
    expected = tensors(tmp_path / "one")
    for name in ("two", "parts"):
        assert all(torch.equal(value, expected[key]) for key, value in tensors(tmp_path / name).items()), name


@pytest.mark.cuda
def test_a_run_goes_from_card_to_cpu_and_back(prepared, tmp_path) -> None:
    there, here = (configuration(prepared, f"device={kind}", "precision=fp32") for kind in ("cuda", "cpu"))
    assert run_training(there, tmp_path / "run", StopAt(2)).state == "stopped"
    assert all(value.device == CPU for value in tensors(tmp_path / "run").values())
    assert run_training(here, tmp_path / "run", StopAt(3), resume=True).state == "stopped"
    assert run_training(there, tmp_path / "run", SilentDisplay(), resume=True).state == "finished"


@pytest.mark.cuda
@pytest.mark.usefixtures("exact_types")
def test_a_card_predicts_what_the_cpu_predicts(prepared, tmp_path) -> None:
    run_training(configuration(prepared), tmp_path / "run", SilentDisplay())
    images = prepared.parent / "raw" / "train_images"
    for device in ("cpu", "cuda"):
        command = ["predict", str(tmp_path / "run"), str(images), str(tmp_path / device), "-o", f"device={device}"]
        assert volumen([*command, "-o", "precision=fp32"]) == 0
    for mask in (tmp_path / "cpu").glob("*.tif"):
        left, right = tifffile.imread(mask), tifffile.imread(tmp_path / "cuda" / mask.name)
        assert np.mean(left != right) < 1e-3


@pytest.mark.cuda
@pytest.mark.usefixtures("exact_types")
@pytest.mark.parametrize("mirror", [False, True])
def test_logits_of_a_volume_are_those_of_the_cpu(mirror: bool) -> None:
    torch.manual_seed(3)
    model = build_model(UNetModel(filters=4, depth=2))
    image = np.random.default_rng(0).standard_normal((36, 28, 33), dtype=np.float32)
    found = [
        Predictor(
            copy.deepcopy(model), tile=(16, 16, 16), overlap=0.5, device=device, mirror=mirror,
            precision=Precision("fp32", device.type),
        ).logits(image)
        for device in (CPU, CARD)
    ]  # fmt: skip
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-4)
