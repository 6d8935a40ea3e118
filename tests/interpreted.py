"""Laws of Triton kernels hold on a card, and in Triton's interpreter, which needs a process that begins with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ROOT = Path(__file__).parents[1]

on_devices = pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=pytest.mark.skipif(not INTERPRETED, reason="a law for the interpreter's process")),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
"""Of a law that takes `device`: here on a card, and on the CPU in the process that `holds_interpreted` begins."""
in_parent = pytest.mark.skipif(INTERPRETED, reason="begins the interpreter's process itself")


def holds_interpreted(file: str) -> None:
    """Run a file's laws in Triton's interpreter; fails with what pytest says there."""
    pytest.importorskip("triton")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment = {**inherited, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "cpu", file]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
