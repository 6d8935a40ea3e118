"""Trackio: its own local store (`TRACKIO_DIR`), or the server or Space that its variables name."""

import importlib
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from volumen.trackers.tracker import Rgb, TrackedRun, Tracker


class _Trackio:
    def __init__(self, library: Any, run: Any, project: str, faults: list[str]) -> None:
        self._library, self._run, self._faults = library, run, faults
        self.hint = f"see it with: trackio show --project {project}"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, dict(values))

    def image(self, step: int, name: str, picture: Rgb) -> None:
        self._log(step, {name: self._library.Image(picture)})

    def text(self, step: int, name: str, text: str) -> None:
        self._log(step, {name: self._library.Markdown(text)})

    def close(self) -> None:
        self._run.finish()
        self._raise_fault()

    def _log(self, step: int, values: dict[str, Any]) -> None:
        self._run.log(values, step=step)
        self._raise_fault()

    def _raise_fault(self) -> None:
        if self._faults:
            fault = self._faults[0]
            self._faults.clear()
            raise RuntimeError(fault)


def open_trackio(run: TrackedRun) -> Tracker:
    """The run in its project, or, resumed, the run that it was."""
    trackio: Any = importlib.import_module("trackio")

    faults: list[str] = []
    for name in ("trackio", "trackio.run", "trackio.utils"):
        _silence(sys.modules[name], faults)
    project = os.environ.get("TRACKIO_PROJECT", run.project)
    begun = trackio.init(
        project=project,
        name=run.name,
        config=run.flat_settings(),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    return _Trackio(trackio, begun, project, faults)


def _silence(module: ModuleType, faults: list[str]) -> None:
    """Have a module print nothing between the lines of a run, and gather the failures that it only warns of."""
    names = vars(module)
    names["print"] = lambda *_, **__: None
    if "_emit_nonfatal_warning" in names:
        names["_emit_nonfatal_warning"] = lambda message, *_, **__: faults.append(str(message))
