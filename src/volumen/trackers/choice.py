"""Which trackers a run has: `--track` and what it needs."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from volumen.errors import UserError
from volumen.trackers.listening import Opener, Tell, TrackingListener
from volumen.trackers.to_mlflow import open_mlflow
from volumen.trackers.to_tensorboard import open_tensorboard
from volumen.trackers.to_trackio import open_trackio
from volumen.trackers.to_wandb import open_wandb
from volumen.training.listener import Listener, Listeners

TRACKERS: dict[str, Opener] = {
    "tensorboard": open_tensorboard,
    "wandb": open_wandb,
    "mlflow": open_mlflow,
    "trackio": open_trackio,
}
NONE = "none"
DEFAULT = "tensorboard"
_NEEDS = {"wandb": ("wandb", "PIL"), "mlflow": ("mlflow",), "trackio": ("trackio",)}
"""Libraries, by tracker; TensorBoard's files are written without it."""


def chosen_trackers(names: Sequence[str]) -> dict[str, Opener]:
    """The trackers of some names; `none` alone is no tracker. What they need is looked for, and nothing is imported.

    Raises:
        UserError: An unknown name, or a library that is not installed.
    """
    wanted = list(dict.fromkeys(filter(None, (name.strip() for name in names))))
    if wanted == [NONE]:
        return {}
    unknown = [name for name in wanted if name not in TRACKERS]
    if unknown or not wanted:
        what = f"there is no tracker {', '.join(unknown)}" if unknown else "no tracker is named"
        raise UserError(f"{what}: --track takes some of {', '.join(TRACKERS)}, with commas between, or {NONE} alone")
    for name in wanted:
        missing = [each for each in _NEEDS.get(name, ()) if importlib.util.find_spec(each) is None]
        if missing:
            raise UserError(f"--track {name} needs what is not installed: pip install 'volumen[{name}]'")
    return {name: TRACKERS[name] for name in wanted}


@contextmanager
def tracked(trackers: dict[str, Opener], display: Listener, tell: Tell) -> Iterator[Listener]:
    """A display joined by trackers, which are closed at the end.

    Args:
        trackers: As `chosen_trackers` gives them.
        display: Shows the run.
        tell: Told at the end how to see what was sent, and what was not.
    """
    if not trackers:
        yield display
        return
    tracking = TrackingListener(trackers, tell)
    try:
        yield Listeners([display, tracking])
    finally:
        tracking.close()
