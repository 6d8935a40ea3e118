"""TensorBoard: event files in the run's folder, `tensorboard --logdir RUN`."""

from collections.abc import Mapping

from volumen.data.pictures import encode_png
from volumen.runs.folder import TENSORBOARD
from volumen.trackers.event_file import EventFile
from volumen.trackers.tracker import Rgb, TrackedRun, Tracker


class _TensorBoard:
    hint = ""

    def __init__(self, run: TrackedRun) -> None:
        self._file = EventFile(run.folder / TENSORBOARD, run.step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._file.scalars(step, values)

    def image(self, step: int, name: str, picture: Rgb) -> None:
        height, width = picture.shape[:2]
        self._file.image(step, name, encode_png(picture), height, width)

    def text(self, step: int, name: str, text: str) -> None:
        self._file.text(step, name, text)

    def close(self) -> None:
        self._file.close()


def open_tensorboard(run: TrackedRun) -> Tracker:
    """A new event file of the run."""
    return _TensorBoard(run)
