"""Two processes train one run: as one process would, together to its end, and on from where one of them died."""

import io
import json
import os
import random
import signal
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ranks import launch

from volumen.cli.main import run
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.errors import EXIT_FAILURE, EXIT_USER_ERROR
from volumen.losses.terms import SoftDice
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.runs.folder import open_run
from volumen.runs.records import read_metrics
from volumen.training import session, state
from volumen.training.distributed import joined
from volumen.training.listener import BaseListener
from volumen.training.loop import run_training
from volumen.training.readings import Readings
from volumen.training.step import NonFiniteError

STEPS, EPOCHS = 4, 3
TOLERANCE = 1e-4
"""Of all weights after the run: the parts of a sum are rounded in another order, and AdamW divides by small numbers."""
NO_MEMORY = 0
TIMES = {"seconds", "loader_seconds", "memory_gb", "run", "trusted", "random_cuda"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(32, 32, 32), scrolls=1, seed=1)
    assert run(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert run(["folds", str(folder / "prepared"), "--folds", "2"]) == 0
    return folder / "prepared"


def overrides(prepared: Path, *more: str) -> list[str]:
    return [
        f"data.dataset={prepared}",
        "data.patch=[16, 16, 16]",
        f"data.sampling.patches_per_epoch={2 * STEPS}",
        "data.batch=2",
        "data.workers=0",
        "model.filters=2",
        "model.depth=1",
        "precision=fp32",
        f"training.epochs={EPOCHS}",
        "training.validate_every_epochs=1",
        "training.average={decay: 0.9}",
        "training.swa={start_epoch: 1}",
        "postprocessing.steps=[{kind: threshold}]",
        *more,
    ]


def configuration(prepared: Path, *more: str) -> Config:
    return load_config("preset:default", overrides(prepared, *more)).config


class Ends(BaseListener):
    """Sends its process a signal after a step, or lets it run out of memory."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        if state.cursor.step == self.step and self.number == NO_MEMORY:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if state.cursor.step == self.step:
            os.kill(os.getpid(), self.number)


def trained(config: Config, folder: Path, resume: bool, ends: dict[int, tuple[int, int]]) -> tuple[str, int, Any]:
    """How the run ended on this rank, after how many epochs, and its best metric; `ends`: step and signal by rank."""
    with joined("cpu") as world:
        step, number = ends.get(world.rank, (-1, 0))
        outcome = run_training(config, folder, Ends(step, number), resume=resume, world=world)
        return outcome.state, outcome.epochs, outcome.best_metric


def state_of(folder: Path) -> dict[str, Any]:
    return open_run(folder).take_newest(pytest.fail)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [without_times(one) for one in value] if isinstance(value, list | tuple) else value


def records(folder: Path, *kinds: str) -> list[Any]:
    return [without_times(one) for one in read_metrics(folder) if one["kind"] in kinds]


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "two"
    codes, told = launch(trained, 2, configuration(prepared), folder, False, {})
    assert codes == [0, 0]
    assert told[0] == told[1]
    assert told[0][:2] == ("finished", EPOCHS)
    return folder


def distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    flat = [torch.cat([tensor.flatten().double() for tensor in weights.values()]) for weights in (one, other)]
    return float((flat[0] - flat[1]).norm() / flat[0].norm())


def test_two_processes_train_as_one_does(prepared: Path, undisturbed: Path, tmp_path: Path) -> None:
    alone = tmp_path / "one"
    run_training(configuration(prepared), alone, BaseListener())
    one, two = state_of(alone), state_of(undisturbed)
    assert distance(one["model"], two["model"]) < TOLERANCE
    for average in ("average", "swa"):
        assert distance(one[average]["weights"], two[average]["weights"]) < TOLERANCE
    for count in ("steps", "patches", "centred", "valid", "true"):
        assert one["totals"][count] == two["totals"][count]
    kinds = ("train", "validation", "validation_swa")
    found = [
        [(record["kind"], record["step"]) for record in records(folder, *kinds)] for folder in (alone, undisturbed)
    ]
    assert found[0] == found[1]
    for left, right in zip(records(alone, *kinds), records(undisturbed, *kinds), strict=True):
        assert left["total"] == pytest.approx(right["total"], rel=1e-3)
        if "cases" in left:
            assert list(left["cases"]) == list(right["cases"])
    assert [path.name for path in sorted(undisturbed.iterdir())] == [path.name for path in sorted(alone.iterdir())]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, NO_MEMORY])
def test_a_run_that_lost_or_stopped_a_process_goes_on_to_the_same_end(
    prepared: Path, undisturbed: Path, tmp_path: Path, number: int
) -> None:
    """By the command, as torchrun starts it; after Ctrl-C at any step, after a death from the last checkpoint."""
    rank, step = random.randrange(2), random.randrange(STEPS + 1, STEPS * EPOCHS)
    where, folder = f"rank {rank}, step {step}", tmp_path / "run"
    codes, told = launch(trained, 2, configuration(prepared), folder, False, {rank: (step, number)})
    if number in (signal.SIGKILL, NO_MEMORY):
        assert codes[rank] == (-signal.SIGKILL if number else EXIT_FAILURE), where
        assert codes[1 - rank] == EXIT_FAILURE, where
        reason = json.loads((folder / "status.json").read_text()).get("reason", "")
        if rank == 1:
            assert "another of the 2 processes ended" in reason
        assert number == signal.SIGKILL or "memory ran out" in reason, where
        assert state_of(folder)["cursor"]["step"] == (step - 1) // STEPS * STEPS, where
    else:
        assert codes == [0, 0], where
        assert told[0] == told[1], where
        assert told[0][0] == "stopped", where
        assert state_of(folder)["cursor"]["step"] == step, where
    codes, told = launch(command, 2, ["train", str(folder), "--resume", "--quiet", "--track", "none"])
    assert (codes, told) == ([0, 0], [0, 0]), where
    one, other = state_of(undisturbed), state_of(folder)
    assert without_times(one) == without_times(other), where
    kinds = ("train", "steps", "validation", "validation_swa")
    assert records(undisturbed, *kinds) == records(folder, *kinds), where


def command(arguments: list[str]) -> int:
    return run(arguments)


def read_late(config: Config, folder: Path, bad: int, reading: dict[str, Any]) -> tuple[list[Any], str]:
    """What a rank was told of the steps, and of the step from which on there are no numbers."""
    told, calls, real = [], [], SoftDice.compute

    class Told(BaseListener):
        def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
            told.append((state.cursor.step, state.cursor.batch, result))

    def compute(self: SoftDice, inputs: Any) -> torch.Tensor:
        value = real(self, inputs)
        calls.extend([0] if value.requires_grad else [])
        return value * float("nan") if len(calls) == bad and value.requires_grad else value

    with joined("cpu") as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "build_optimiser", partial(state.build_optimiser, fused=True))
        patch.setattr(session, "Readings", lambda *arguments, **_: Readings(*arguments, **reading))
        patch.setattr(SoftDice, "compute", compute)
        try:
            return told, run_training(config, folder, Told(), world=world).state
        except NonFiniteError as error:
            return told, str(error)


def test_ranks_that_read_their_steps_late_are_told_the_same(prepared: Path, tmp_path: Path) -> None:
    bad = random.choice([0, random.randrange(1, STEPS * EPOCHS + 1)])  # 0: none
    config = configuration(prepared, f"training.monitoring={'null' if bad else '{probe_every_steps: 3}'}")
    found = []
    for name, reading in (("late", {"every": 3}), ("at_once", {"at_once": True})):
        codes, told = launch(read_late, 2, config, tmp_path / name, bad, reading)
        assert codes == [0, 0], (name, bad)
        assert told[0] == told[1], (name, bad)
        found.append((told[0], records(tmp_path / name, "train", "steps", "validation", "probe")))
    assert found[0] == found[1], bad
    steps, said = found[0][0]
    assert [step for step, _, _ in steps] == list(range(1, bad or STEPS * EPOCHS + 1)), bad
    assert said == "finished" if not bad else said.count("phantom") == 2 or said.count(", ") >= 1, said


def test_one_process_goes_on_with_what_two_began(prepared: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    step = random.randrange(1, STEPS * EPOCHS)
    codes, told = launch(trained, 2, configuration(prepared), folder, False, {1: (step, signal.SIGTERM)})
    assert (codes, [one[0] for one in told]) == ([0, 0], ["stopped", "stopped"]), step
    run_training(configuration(prepared), folder, BaseListener(), resume=True)
    assert distance(state_of(undisturbed)["model"], state_of(folder)["model"]) < TOLERANCE, step


def test_ranks_end_with_the_code_of_a_mistake_and_one_says_it(prepared: Path, tmp_path: Path) -> None:
    more = [part for one in overrides(prepared, "data.batch=3") for part in ("-o", one)]
    there = tmp_path / "file"
    there.write_text("no folder")
    plain = [part for one in overrides(prepared) for part in ("-o", one)]
    _, told = launch(commands, 2, [["train", "preset:default", *more, "--out", str(tmp_path / "run")],
                                       ["train", "preset:default", *plain, "--out", str(there)]])  # fmt: skip
    (codes, said), (other_codes, other_said) = told
    assert codes == other_codes == [EXIT_USER_ERROR] * 2
    assert not (tmp_path / "run").exists()
    assert "cannot be divided" in said
    assert str(there) in said
    assert not other_said


def commands(lines: list[list[str]]) -> tuple[list[int], str]:
    """Exit codes, and what was said beside the results; each command joins anew."""
    found, said = [], io.StringIO()
    for line in lines:
        with redirect_stderr(said):
            found.append(run(line))
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    return found, said.getvalue()
