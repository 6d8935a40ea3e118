"""What a tracker does, and what it is told of a run when it is opened."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
STEP = "step"


class Tracker(Protocol):
    """A program that follows experiments; whatever it raises is told once and costs the run nothing."""

    hint: str
    """How to see what was sent; nothing where there is no need to say it."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers by name, after so many steps of the run."""

    def image(self, step: int, name: str, picture: Rgb) -> None:
        """An RGB picture, uint8 [height, width, 3]."""

    def text(self, step: int, name: str, text: str) -> None:
        """Some lines of Markdown."""

    def close(self) -> None:
        """All was sent."""


@dataclass(frozen=True)
class TrackedRun:
    """A run, as a tracker is told of it."""

    folder: Path
    project: str
    """The configuration's name: runs of one name are compared."""
    owner: str
    """The run's name for itself; a resumed run has the same."""
    settings: Mapping[str, Any]
    """The configuration, plain and nested."""
    step: int = 0
    """Steps that were made before: what a tracker holds of later ones is from before a crash."""

    @property
    def name(self) -> str:
        """The folder's name, and enough of the run's own to tell it from others."""
        return f"{self.folder.resolve().name}-{self.owner[:6]}"

    def flat_settings(self) -> dict[str, Any]:
        """Settings by dotted key."""
        return dict(_flat("", self.settings))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), each)
    else:
        yield prefix, value
