"""Weights & Biases: offline in the run's folder, unless `WANDB_MODE` says otherwise."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from volumen.runs.folder import WANDB
from volumen.trackers.tracker import STEP, Rgb, TrackedRun, Tracker

OPENING_SECONDS = 60.0


class _Wandb:
    def __init__(self, library: Any, run: Any, is_ours: bool) -> None:
        self._library, self._run, self._is_ours = library, run, is_ours
        place = run.settings.sync_dir
        self.hint = f"send it with: wandb sync {place}" if run.settings.mode == "offline" else f"see {run.url}"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, STEP: step})

    def image(self, step: int, name: str, picture: Rgb) -> None:
        self._run.log({name: self._library.Image(picture), STEP: step})

    def text(self, step: int, name: str, text: str) -> None:
        self._run.summary[name] = text

    def close(self) -> None:
        self._run.finish()
        if self._is_ours:  # its service is another process, which somebody else's runs may still need
            self._library.teardown()


def open_wandb(run: TrackedRun) -> Tracker:
    """The run in its project, or, resumed, the run that it was."""
    mode = os.environ.get("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nor do its errors go anywhere
    is_ours = "wandb" not in sys.modules
    wandb: Any = importlib.import_module("wandb")

    place = run.folder / WANDB
    place.mkdir(exist_ok=True)
    begun = wandb.init(
        project=os.environ.get("WANDB_PROJECT", run.project),
        name=run.name,
        id=run.owner,
        resume="allow",
        dir=str(run.folder),
        mode=mode,
        config=dict(run.settings),
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            init_timeout=OPENING_SECONDS,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        ),
    )
    begun.define_metric("*", step_metric=STEP)  # its own steps may not go back, a resumed run's do
    return _Wandb(wandb, begun, is_ours)
