"""Write the pictures of docs/tracking.md: each tracker's own viewer with a run of a phantom.

    python docs/tracker_shots.py RUN [--only tensorboard] [--mlflow PROGRAM] [--trackio PROGRAM] [--chromium PROGRAM]

RUN was trained with `--track tensorboard,mlflow,trackio`. A viewer that is not installed is left out, and said so.
"""

import argparse
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import imagecodecs
import numpy as np

IMAGES = Path(__file__).parent / "images"
STARTING_SECONDS = 180
PAGES = {
    "tensorboard": "/?darkMode=false#scalars&tagFilter=loss%7Cval%2Fdice%7Csurface_share&_smoothingWeight=0",
    "mlflow": "/#/experiments/{experiment}/runs/{run}",
    "trackio": "/?metrics=term_raw/soft_dice,term_raw/cross_entropy,val/dice,val/surface_dice",
}
SIZES = {"tensorboard": (1400, 900), "mlflow": (1400, 1500), "trackio": (1400, 900)}  # pixels
MOST_BYTES = 200_000


def serve(name: str, program: str, run: Path, port: int) -> list[str]:
    """The command that shows a run at a port."""
    return {
        "tensorboard": [program, "--logdir", str(run), "--host", "127.0.0.1", "--port", str(port), "--load_fast=false"],
        "mlflow": [program, "ui", "--backend-store-uri", f"sqlite:///{run / 'mlflow' / 'mlflow.db'}",
                   "--port", str(port), "--workers", "1"],
        "trackio": [program, "show", "--host", "127.0.0.1"],
    }[name]  # fmt: skip


def page_of(name: str, run: Path) -> str:
    """The page of a viewer that shows a run."""
    if name != "mlflow":
        return PAGES[name]
    with closing(sqlite3.connect(f"file:{run / 'mlflow' / 'mlflow.db'}?mode=ro", uri=True)) as database:
        uuid, experiment = database.execute("SELECT run_uuid, experiment_id FROM runs").fetchone()
    return PAGES[name].format(experiment=experiment, run=uuid)


def free_port() -> int:
    """One where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(url: str) -> bool:
    """Whether somebody serves pages there."""
    with suppress(urllib.error.URLError, ConnectionError, TimeoutError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


def shoot(chromium: str, url: str, size: tuple[int, int], out: Path) -> None:
    """A page as a PNG of few colours."""
    with tempfile.TemporaryDirectory() as place:
        raw = Path(place, "page.png")
        command = [chromium, "--headless", "--no-sandbox", "--use-angle=swiftshader",
                   "--enable-unsafe-swiftshader", "--hide-scrollbars", f"--screenshot={raw}",
                   f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=30000", "--timeout=60000",
                   f"--user-data-dir={place}/profile", url]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=240)
        picture = imagecodecs.png_decode(raw.read_bytes())[..., :3]
    bits = next(bits for bits in (8, 6, 5, 4, 3) if len(encoded := _png(picture, bits)) <= MOST_BYTES or bits == 3)
    out.write_bytes(encoded)
    print(f"written: {out} ({len(encoded) // 1000} KB, {bits} bits a colour)")


def _png(picture: np.ndarray, bits: int) -> bytes:
    step = 2 ** (8 - bits)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(picture // step * step), level=9))


def main() -> int:
    """Serve, wait, shoot, end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--only", choices=PAGES)
    for name in (*PAGES, "chromium"):
        parser.add_argument(f"--{name}", default=shutil.which(name), metavar="PROGRAM")
    options = parser.parse_args()
    for name in [options.only] if options.only else PAGES:
        program = getattr(options, name)
        if program is None:
            print(f"{name} is not installed")
            continue
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
        viewer = subprocess.Popen(
            serve(name, program, options.run.resolve(), port),
            env=environment,
            stdout=sys.stderr,
            start_new_session=True,
        )
        try:
            began = time.monotonic()
            while not answers(url) and time.monotonic() - began < STARTING_SECONDS and viewer.poll() is None:
                time.sleep(1)
            shoot(
                options.chromium,
                url + page_of(name, options.run.resolve()),
                SIZES[name],
                IMAGES / f"tracking-{name}.png",
            )
        finally:
            with suppress(ProcessLookupError):
                os.killpg(viewer.pid, signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
