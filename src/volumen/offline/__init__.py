"""volumen where there is no internet: its requirements, pinned to what is installed here, as a folder of wheels."""

from volumen.offline.closure import Pin, Target, closure
from volumen.offline.folder import Filled, fill_folder

__all__ = ["Filled", "Pin", "Target", "closure", "fill_folder"]
