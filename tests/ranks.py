"""Several processes that torchrun might have started, on this machine, for tests: gloo, one thread each."""

import multiprocessing
import os
import pickle
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 240.0


def launch(function: Callable[..., Any], size: int, *arguments: Any) -> tuple[list[int | None], list[Any]]:
    """Run a function on each rank, with torchrun's environment; exit codes and what was returned (None where nothing
    was)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["volumen.training.loop", "volumen.cli.main"])
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        ranks = [
            context.Process(target=_rank, args=(function, rank, size, port, folder, arguments)) for rank in range(size)
        ]
        for one in ranks:
            one.start()
        for one in ranks:
            one.join(SECONDS)
        for one in ranks:
            if one.is_alive():
                one.kill()
        files = [Path(folder) / str(rank) for rank in range(size)]
        results = [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]
        return [one.exitcode for one in ranks], results


def _rank(
    function: Callable[..., Any], rank: int, size: int, port: int, folder: str, arguments: tuple[Any, ...]
) -> None:
    import torch

    # The server that forks this process may be a loader's, whose children do not hear signals until they say so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    torch.set_num_threads(1)
    names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    made = function(*arguments)
    (Path(folder) / str(rank)).write_bytes(pickle.dumps(made))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
