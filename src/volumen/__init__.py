"""volumen: find papyrus surfaces in CT volumes, and know why a training run is stuck.

Importing this package imports nothing heavy; every room (`volumen.metrics`, `volumen.losses`, ...) is imported by name.
"""

from volumen._version import __version__

__all__ = ["__version__"]
