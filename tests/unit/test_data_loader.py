"""The loader: the same batches whatever makes them, from wherever it starts."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from small_datasets import prepared_dataset
from volumen.config.data import Augmentation, Data, Sampling
from volumen.data import loader as loader_module
from volumen.data.dataset import Case, PreparedDataset
from volumen.data.loader import PatchLoader, _start_worker, wait_for_workers
from volumen.data.sampling import Draw, PatchDataset, Sample, SampleError
from volumen.errors import UserError
from volumen.system.processes import deaf_children
from volumen.system.stopping import StopRequest, StopWanted

EVERYTHING = Augmentation(
    affine_probability=0.5,
    intensity_probability=0.5,
    gamma_probability=0.5,
    noise_probability=0.5,
    blur_probability=0.5,
)


def epoch_loader(dataset, epoch, batch, workers, start_batch=0):
    with PatchLoader(dataset, batch, workers) as loader:
        yield from loader.epoch(epoch, start_batch)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_dataset(tmp_path_factory.mktemp("loader"), {"11": "a", "12": "b"})


@pytest.fixture
def dataset(prepared: PreparedDataset) -> PatchDataset:
    config = Data(
        dataset="prepared", patch=(16, 16, 16), sampling=Sampling(patches_per_epoch=7), augmentation=EVERYTHING
    )
    return PatchDataset(prepared, ("11", "12"), config, 5)


def same(left: dict, right: dict) -> bool:
    tensors = all(torch.equal(left[name], right[name]) for name in ("image", "target", "valid"))
    return tensors and all(torch.equal(left["meta"][name], right["meta"][name]) for name in left["meta"])


@pytest.fixture(scope="module")
def no_children_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("no_children_left")
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_identical_batches(dataset: PatchDataset, workers: int) -> None:
    with PatchLoader(dataset, 2, 0) as plain, PatchLoader(dataset, 2, workers) as parallel:
        assert plain.batches_per_epoch == 3  # the seventh patch is dropped
        for epoch in (0, 4):
            expected, found = list(plain.epoch(epoch)), list(parallel.epoch(epoch))
            assert len(expected) == len(found) == 3
            assert all(same(left, right) for left, right in zip(expected, found, strict=True))
        first = parallel._loader._iterator  # the workers of the second epoch are those of the first
        again = list(parallel.epoch(4, start_batch=1))
        assert parallel._loader._iterator is first
        assert len(again) == 2
        assert all(same(left, right) for left, right in zip(expected[1:], again, strict=True))
        left_early = parallel.epoch(0)
        next(left_early)
        assert same(next(iter(parallel.epoch(4))), expected[0])


def test_epochs_differ_and_one_epoch_can_be_had_alone(dataset: PatchDataset) -> None:
    first, again, second = (list(epoch_loader(dataset, epoch, 2, 0)) for epoch in (0, 0, 1))
    assert all(same(left, right) for left, right in zip(first, again, strict=True))
    assert not any(same(left, right) for left, right in zip(first, second, strict=True))
    assert [int(key) for batch in second for key in batch["meta"]["key"]] == [7, 8, 9, 10, 11, 12]


def test_the_process_s_random_state_is_left_alone(dataset: PatchDataset) -> None:
    before = torch.get_rng_state()
    list(epoch_loader(dataset, 0, 2, 0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("no_children_left")
def test_workers_outlive_the_signals_that_stop_a_run(dataset: PatchDataset) -> None:
    """Both reach the whole process group; the training process must be able to finish its step first."""
    with PatchLoader(dataset, 1, 1) as loader:
        batches = loader.epoch(0)
        found = [next(batches)]
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGINT)
            os.kill(worker.pid, signal.SIGTERM)
        found += batches
        expected = list(epoch_loader(dataset, 0, 1, 0))
        assert all(same(left, right) for left, right in zip(expected, found, strict=True))


class BusyDataset(PatchDataset):
    """Never comes back from a call in which no line of Python runs, and hence no handler."""

    place: Path

    def _make(self, case: Case, draw: Draw, epoch: int, index: int) -> Sample:
        (self.place / f"called{os.getpid()}").touch()
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        raise AssertionError("it came back")


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex that is taken twice hangs on Linux")
@pytest.mark.usefixtures("no_children_left")
def test_workers_that_are_busy_end_with_the_loader(prepared: PreparedDataset, tmp_path: Path) -> None:
    config = Data(dataset="prepared", patch=(16, 16, 16), sampling=Sampling(patches_per_epoch=4, surface_share=0.0))
    dataset = BusyDataset(prepared, ("11",), config, 0)
    dataset.place = tmp_path
    loader = PatchLoader(dataset, 1, 2)
    assert loader._loader is not None
    with deaf_children(signal.SIGTERM):
        workers = iter(loader._loader)._workers  # type: ignore[attr-defined]
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("called*"))) < len(workers):
        assert time.monotonic() < end
        time.sleep(0.05)
    loader.close()
    for worker in workers:
        worker.join(40)
        assert worker.exitcode not in (0, None)


@pytest.mark.skipif(sys.platform == "win32", reason="signals can be blocked on POSIX only")
def test_a_worker_that_is_signalled_before_it_has_begun_begins(
    dataset: PatchDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole group gets SIGTERM while the workers, and what they are forked from, still import."""
    forkserver._forkserver._stop()  # another test's may have been started otherwise
    monkeypatch.setattr(loader_module, "_start_worker", _signalled_first)
    said: list[str] = []
    with PatchLoader(dataset, 1, 2, died=said.append) as loader:
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGTERM)
        found = list(loader.epoch(0))
    with PatchLoader(dataset, 1, 0) as plain:
        assert all(same(left, right) for left, right in zip(plain.epoch(0), found, strict=True))
    assert said == []


class ServerThatImports:
    """A context whose fork server makes no process before it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def get_start_method(self) -> str:
        return "forkserver"

    def Process(self, target: object) -> "ServerThatImports":
        return self

    def start(self) -> None:
        self.let.wait(60)

    def join(self) -> None:
        pass


def test_the_wait_for_a_fork_server_that_imports_may_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerThatImports()
    monkeypatch.setattr(loader_module, "_context", lambda: server)
    monkeypatch.setattr(loader_module, "_served", False)
    with StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopWanted):
            wait_for_workers(2)
        wait_for_workers(0)  # nobody waits where there are none
        server.let.set()
        with suppress(StopWanted):
            wait_for_workers(2)
    wait_for_workers(2)
    monkeypatch.setattr(loader_module, "_context", lambda: pytest.fail("it has made a process before"))
    wait_for_workers(2)


def _signalled_first(worker: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    _start_worker(worker)


@pytest.mark.usefixtures("no_children_left")
class FailingDataset(PatchDataset):
    """Cannot make its samples."""

    def _make(self, case: Case, draw: Draw, epoch: int, index: int) -> Sample:
        raise ValueError("no such thing")


def test_a_failing_worker_names_the_case(prepared: PreparedDataset) -> None:
    config = Data(dataset="prepared", patch=(16, 16, 16), sampling=Sampling(patches_per_epoch=4, surface_share=0.0))
    dataset = FailingDataset(prepared, ("11",), config, 0)
    for workers in (0, 1):
        with pytest.raises(SampleError, match=r"^case 11, epoch 3, index 0, .*no such thing$"):
            list(epoch_loader(dataset, 3, 2, workers))


def test_what_cannot_work_is_refused(dataset: PatchDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"batch must lie between 1 and patches_per_epoch \(7\), got 8"):
        PatchLoader(dataset, 8, 0)
    with (
        PatchLoader(dataset, 2, 0) as loader,
        pytest.raises(UserError, match=r"start_batch must lie in \[0, 3\], got 4"),
    ):
        loader.epoch(0, 4)
    with pytest.raises(RuntimeError, match="closed"):
        loader.epoch(0)
    monkeypatch.setattr(loader_module, "PREFETCH", 10**9)
    with pytest.raises(UserError, match=r"workers need up to .* set data\.workers to 0"):
        PatchLoader(dataset, 2, 1)


def worker_ids(loader: PatchLoader) -> list[int]:
    assert loader._loader is not None
    return [worker.pid for worker in loader._loader._iterator._workers]  # type: ignore[union-attr]


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_is_killed_costs_no_batch(dataset: PatchDataset, deaths: int) -> None:
    said: list[str] = []
    with PatchLoader(dataset, 1, 0) as plain, PatchLoader(dataset, 1, 2, died=said.append) as loader:
        expected, found, killed = list(plain.epoch(0)), [], 0
        for batch in loader.epoch(0):
            found.append(batch)
            if killed < deaths and len(found) in (1, 4) and loader.workers:
                killed += 1
                for pid in worker_ids(loader):
                    os.kill(pid, signal.SIGKILL)
        assert killed == deaths
        assert all(same(a, b) for a, b in zip(expected, found, strict=True))
        assert len(said) == deaths
        assert "killed, most likely by the system for want of memory; it is replaced" in said[0]
        assert loader.workers == (0 if deaths == 2 else 2)
        again = list(loader.epoch(0))
        assert all(same(a, b) for a, b in zip(expected, again, strict=True))


def test_a_damaged_file_in_a_worker_is_one_line(prepared: PreparedDataset, tmp_path: Path) -> None:
    import shutil

    from volumen.data.packed import DamagedDataError

    shutil.copytree(prepared.root, tmp_path / "prepared")
    config = Data(dataset="prepared", patch=(16, 16, 16), sampling=Sampling(patches_per_epoch=40))
    copy = PreparedDataset.open(tmp_path / "prepared")
    with PatchLoader(PatchDataset(copy.trusting(), ("11", "12"), config, 5), 1, 1) as loader:
        batches = loader.epoch(0)
        next(batches)
        os.truncate(copy.path("11", "images"), 300)
        with pytest.raises(DamagedDataError, match=r"images/11.npy .*run `volumen prepare` again") as caught:
            list(batches)
        assert "\n" not in str(caught.value)


def test_a_thread_that_pins_batches_and_ends_with_its_connection_says_that_a_worker_died(
    dataset: PatchDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a card that thread reads what workers send; the worker is known to be dead a moment later."""

    class Worker:
        exitcode: int | None = None

        def join(self, seconds: float) -> None:
            self.exitcode = -9

        def is_alive(self) -> bool:
            return self.exitcode is None

    with PatchLoader(dataset, 1, 0) as loader:
        monkeypatch.setattr(loader, "workers", 1)
        monkeypatch.setattr(loader, "_loader", SimpleNamespace(_iterator=SimpleNamespace(_workers=[Worker()])))
        assert loader._cause_of_death(RuntimeError("no sample")) is None
        assert "killed" in str(loader._cause_of_death(RuntimeError("Pin memory thread exited unexpectedly")))
