"""A training whose memory runs out, or whose card is gone: nothing is lost, what fits is named, and it goes on."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.inference.recipe import open_recipe
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run, run_config
from volumen.runs.records import read_status
from volumen.training import fitting, pacing
from volumen.training import state as training_state
from volumen.training.averaging import MovingAverage
from volumen.training.distributed import World
from volumen.training.fitting import Size, fitting_batch, ran_out_of_memory, smaller_sizes, with_batch
from volumen.training.loop import run_training
from volumen.training.lost_device import DeviceLostError, is_lost
from volumen.training.out_of_memory import OutOfMemoryError
from volumen.training.resizing import Place, resized
from volumen.training.step import NonFiniteError

SMALL = [
    "data.patch=[24, 24, 24]", "data.batch=4", "data.sampling.patches_per_epoch=8", "data.workers=0",
    "data.augmentation.affine_probability=0", "model.filters=2", "model.depth=2", "training.epochs=3",
    "training.validate_every_epochs=1", "training.monitoring=null", "inference.tile=[16, 16, 16]",
    "postprocessing.steps=[{kind: threshold}]",
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder / "raw", volumes=3, shape=(32, 32, 32), scrolls=1, seed=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "3"]) == 0
    return folder / "prepared"


def configuration(prepared: Path, *overrides: str) -> Config:
    return load_config("preset:default", [f"data.dataset={prepared}", *SMALL, *overrides]).config


@contextmanager
def forward_fails(fails: Callable[[int, torch.Tensor], BaseException | None]) -> Iterator[None]:
    """Training steps, by their number, fail in the network's forward."""
    build, calls = training_state.build_model, 0

    def built(*arguments: Any, **named: Any) -> torch.nn.Module:
        model = build(*arguments, **named)

        def before(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            nonlocal calls
            if module.training:
                calls += 1
                error = fails(calls, given[0])
                if error is not None:
                    raise error

        model.register_forward_pre_hook(before)
        return model

    with mock.patch.object(training_state, "build_model", built):
        yield


def room_for(voxels: int, from_call: int = 1) -> Callable[[int, torch.Tensor], BaseException | None]:
    def fails(call: int, image: torch.Tensor) -> BaseException | None:
        if call >= from_call and image.numel() > voxels:
            return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.14 GiB.\nmore words")
        return None

    return fails


def weights(run: Path) -> dict[str, Any]:
    state = open_run(run).checkpoints.load_latest(pytest.fail)
    return {"model": state["model"], "moments": state["optimiser"]["state"], "average": state["average"]}


def the_same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(the_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(the_same, one, other))
    return bool(one == other)


class StopAt(SilentDisplay):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        from volumen.system.stopping import ask_to_stop

        self.left -= 1
        if self.left == 0:
            ask_to_stop("the test")


@pytest.mark.parametrize(("call", "voxels", "fits"), [
    (4, 2 * 24**3, "data.batch: 2, data.patch: [24, 24, 24]"),
    (1, 24**3 + 5, "data.batch: 1, data.patch: [24, 24, 24]"),
    (2, 20**3, "data.batch: 1, data.patch: [16, 16, 16]"),
])  # fmt: skip
def test_what_fits_is_named_and_the_run_goes_on_with_it(
    prepared: Path, tmp_path: Path, call: int, voxels: int, fits: str
) -> None:
    run, done = tmp_path / "run", call - 1
    with forward_fails(room_for(voxels, from_call=call)), pytest.raises(OutOfMemoryError) as error:
        run_training(configuration(prepared), run, SilentDisplay())
    said = str(error.value)
    assert fits in said
    assert f"the state of step {done} is saved" in said
    assert read_status(run)["state"] == "failed"
    if done:  # what is saved is what a run that was stopped there saves
        run_training(configuration(prepared), tmp_path / "stopped", StopAt(done))
        assert the_same(weights(run), weights(tmp_path / "stopped"))
    options = shlex.split(said.split("--resume")[1])[1::2]
    with forward_fails(room_for(voxels)):  # it does fit
        outcome = run_training(configuration(prepared, *options), run, SilentDisplay(), resume=True)
    assert (outcome.state, outcome.epochs) == ("finished", 3)
    assert run_config(run).data.batch == int(re.findall(r"data.batch: (\d+)", fits)[0])
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_only_who_ran_out_of_memory_may_go_on_with_less(prepared: Path, tmp_path: Path) -> None:
    run_training(configuration(prepared), tmp_path / "run", StopAt(1))
    with pytest.raises(UserError, match=r"another configuration \(data.batch 4 -> 2\)"):
        run_training(configuration(prepared, "data.batch=2"), tmp_path / "run", SilentDisplay(), resume=True)


def test_an_update_that_was_begun_is_not_saved(prepared: Path, tmp_path: Path) -> None:
    """The weights have moved and nobody counted it: the last checkpoint stands, and leads where it would have led."""
    update, calls = MovingAverage.update, 0

    def fails(average: MovingAverage, model: torch.nn.Module, stopped: torch.Tensor | None = None) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        update(average, model, stopped)

    with mock.patch.object(MovingAverage, "update", fails), pytest.raises(UserError, match="the state of step 2 is"):
        run_training(configuration(prepared), tmp_path / "run", SilentDisplay())
    run_training(configuration(prepared), tmp_path / "run", SilentDisplay(), resume=True)
    run_training(configuration(prepared), tmp_path / "undisturbed", SilentDisplay())
    assert the_same(weights(tmp_path / "run"), weights(tmp_path / "undisturbed"))


LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"


def test_a_card_that_is_gone_ends_in_a_sentence_and_the_run_goes_on(prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fails = forward_fails(lambda call, _: RuntimeError(LOST) if call == 4 else None)
    with fails, pytest.raises(DeviceLostError) as error:
        run_training(configuration(prepared), run, SilentDisplay())
    said = str(error.value)
    assert "CUDA error: unspecified launch failure" in said
    assert "\n" not in said
    assert "the checkpoint of step 2 stands" in said
    assert f"volumen train {run} --resume" in said
    assert (read_status(run)["state"], read_status(run)["reason"]) == ("failed", said)
    run_training(configuration(prepared), run, SilentDisplay(), resume=True)
    run_training(configuration(prepared), tmp_path / "undisturbed", SilentDisplay())
    assert the_same(weights(run), weights(tmp_path / "undisturbed"))


@pytest.mark.parametrize("words", [
    LOST,
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: device-side assert triggered",
    "CUDA driver error: an illegal memory access was encountered",
    "Triton Error [CUDA]: unspecified launch failure",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm",
    "Unable to determine the device handle: GPU 0000:3B:00.0 has fallen off the bus",
])  # fmt: skip
def test_what_pytorch_says_of_a_lost_card_is_known(words: str) -> None:
    assert is_lost(RuntimeError(words))
    assert not ran_out_of_memory(RuntimeError(words))


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
])  # fmt: skip
def test_what_pytorch_says_of_memory_is_known(error: BaseException) -> None:
    assert ran_out_of_memory(error)


@pytest.mark.parametrize("error", [
    RuntimeError("shape mismatch"), NonFiniteError("out of memory"), UserError("CUDA error"), ValueError("CUDA error"),
])  # fmt: skip
def test_other_errors_are_neither(error: BaseException) -> None:
    assert not ran_out_of_memory(error)
    assert not is_lost(error)


@pytest.mark.parametrize(("room", "patches", "fits"), [(1, 8, 1), (2.5, 8, 2), (7.9, 8, 4), (99, 8, 8), (99, 7, 4)])
def test_auto_is_the_largest_power_of_two_that_fits(prepared: Path, room: float, patches: int, fits: int) -> None:
    config = configuration(prepared, "data.batch=auto", f"data.sampling.patches_per_epoch={patches}")
    with forward_fails(room_for(int(room * 24**3))):
        assert fitting_batch(config, torch.device("cpu"), 10**12) == fits


def test_auto_says_what_to_do_where_nothing_fits(prepared: Path) -> None:
    config = configuration(prepared, "data.batch=auto")
    with forward_fails(room_for(20**3)), pytest.raises(UserError, match=r"not even one patch of \[24, 24, 24\] fits"):
        fitting_batch(config, torch.device("cpu"), 10**9)


def test_a_run_that_began_with_auto_keeps_its_number(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = configuration(prepared, "data.batch=auto"), tmp_path / "run"
    assert with_batch(config) == configuration(prepared, "data.batch=2")  # on a CPU
    first = iter(["cuda"])  # for whoever settles the batch, and nobody after that
    monkeypatch.setattr(World, "device_of", lambda world, wanted: torch.device(next(first, "cpu")))
    monkeypatch.setattr(fitting, "free_bytes", lambda _: 10**12)
    monkeypatch.setattr(fitting, "fitting_batch", lambda config, device, free, world: 4)
    assert run_training(config, run, StopAt(1)).state == "stopped"
    assert run_config(run) == configuration(prepared, "data.batch=4")
    monkeypatch.setattr(fitting, "fitting_batch", lambda config, device, free, world: 8)
    assert run_training(config, run, SilentDisplay(), resume=True).state == "finished"
    assert run_config(run) == configuration(prepared, "data.batch=4")


@given(own=st.builds(Size, st.integers(1, 300), st.tuples(*[st.integers(1, 24).map(lambda n: 16 * n)] * 3)))
def test_sizes_to_try_become_smaller_and_end(own: Size) -> None:
    sizes = [own, *smaller_sizes(own, 16)]
    volumes = [one.batch * one.patch[0] * one.patch[1] * one.patch[2] for one in sizes]
    assert all(after < before for before, after in pairwise(volumes))
    assert sizes[-1] == Size(1, (16, 16, 16))
    assert all(side % 16 == 0 for one in sizes for side in one.patch)


@given(patches=st.integers(1, 64), now=st.integers(1, 64), an_epoch=st.integers(64, 500), epochs=st.integers(0, 40),
       more=st.integers(0, 40), data=st.data())  # fmt: skip
def test_a_place_in_smaller_steps_is_the_same_place(
    patches: int, now: int, an_epoch: int, epochs: int, more: int, data: st.DataObject
) -> None:
    per_epoch, after = an_epoch // patches, an_epoch // now
    batch = data.draw(st.integers(0, per_epoch))
    before = Place(epochs * per_epoch + batch, batch, (epochs + 1 + more) * per_epoch, per_epoch, patches)
    if now > patches:
        with pytest.raises(UserError, match="smaller steps"):
            resized(before, now, after)
        return
    found = resized(before, now, after)
    assert found.step - found.batch == epochs * after  # as many epochs done
    assert found.planned == (epochs + 1 + more) * after  # and planned
    assert (found.batch == after) or found.batch * now <= batch * patches < (found.batch + 1) * now
    assert (batch == per_epoch) <= (found.batch == after)
    assert found.step >= before.step
    assert resized(found, now, after) == found


def intervals(run: Path) -> list[int]:
    """Epochs after which the run was validated, from 1."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return sorted({line["epoch"] + 1 for line in lines if line["kind"] == "validation"})


def test_validations_that_take_too_long_become_rarer_and_stay_so(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a card; and a run that is gone on with knows it. An interval that was set by name stays."""
    monkeypatch.setattr(pacing, "PACED", ("cpu",))
    monkeypatch.setattr(pacing, "SHARE", 1e-6)  # every validation takes too long: as rare as five are left
    config = configuration(prepared, "training.epochs=20", "data.sampling.patches_per_epoch=1", "data.batch=1")
    run_training(config, tmp_path / "named", SilentDisplay())
    assert intervals(tmp_path / "named") == list(range(1, 21))
    run = tmp_path / "run"
    assert run_training(config, run, StopAt(6), may_validate_rarely=True).state == "stopped"
    assert run_training(config, run, SilentDisplay(), resume=True).state == "finished"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    found = [event for event in events if event["kind"] == "validation_interval"]
    assert [(event["before"], event["every_epochs"]) for event in found] == [(1, 3)]  # after 2 of 20 epochs
    assert intervals(run) == [1, 2, 5, 8, 11, 14, 17, 20]


on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.cuda
@on_a_card
@pytest.mark.parametrize(("begins", "ends"), [("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_checkpoint_goes_on_and_predicts_on_another_device(
    prepared: Path, tmp_path: Path, begins: str, ends: str, optimiser: str
) -> None:
    run, kind = tmp_path / "run", f"optimiser={{kind: {optimiser}}}"
    run_training(configuration(prepared, kind, f"device={begins}"), run, StopAt(3))
    outcome = run_training(configuration(prepared, kind, f"device={ends}"), run, SilentDisplay(), resume=True)
    assert (outcome.state, outcome.epochs) == ("finished", 3)
    for device in (begins, ends):
        recipe = open_recipe(run, which="last", overrides=[f"device={device}", "precision=fp32"])
        found = recipe.predictor.probabilities(np.zeros((20, 24, 24), np.float32))
        assert np.isfinite(found).all()


@pytest.mark.cuda
@on_a_card
def test_a_card_whose_memory_runs_out(prepared: Path, tmp_path: Path) -> None:
    large = ["data.patch=[64, 64, 64]", "model.filters=8", "model.depth=3", "device=cuda", "precision=fp32"]
    config, run = configuration(prepared, *large, "data.batch=8"), tmp_path / "run"
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.6 * 2**30 / total)
    try:
        with pytest.raises(OutOfMemoryError) as error:
            run_training(config, run, SilentDisplay())
        options = shlex.split(str(error.value).split("--resume")[1])[1::2]
        outcome = run_training(configuration(prepared, *large, *options), run, SilentDisplay(), resume=True)
        assert outcome.state == "finished"
        assert run_config(run).data.batch < 8
        auto = with_batch(configuration(prepared, *large, "data.batch=auto")).data.batch
        assert 1 <= auto < 8
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
