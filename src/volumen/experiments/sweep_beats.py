"""Signs of life that workers leave for those who cannot see their locks."""

import platform
import secrets
import time
from pathlib import Path

from volumen.files import write_atomically

FILE = "beat"
SILENT_SECONDS = 120.0
"""A worker on another machine whose beat has not changed for so long is dead."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def machine() -> str:
    """Names what shares the system's locks: a kernel since it began, or by its name where that cannot be told."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return platform.node()


def beat(folder: Path, token: str) -> None:
    """Leave a sign of life of the claim with this token."""
    write_atomically(folder / FILE, f"{token} {secrets.token_hex(4)}")


def owner_of(folder: Path) -> str:
    """The token of whoever left the last sign of life; empty where that cannot be told."""
    try:
        return (folder / FILE).read_text(encoding="ascii").partition(" ")[0]
    except (OSError, ValueError):
        return ""


class Pulse:
    """Remembers beats, and since when they are what they are by this process's own clock."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[bytes, float]] = {}

    def beats(self, where: str, folder: Path) -> bool:
        """Whether a worker of another machine may be alive; of this one, its lock says so."""
        if where == machine():
            return False
        path = folder / FILE
        try:
            now = path.read_bytes()
        except OSError:
            return False
        seen = self._seen.get(path)
        if seen is None or seen[0] != now:
            seen = self._seen[path] = (now, time.monotonic())
        return time.monotonic() - seen[1] < SILENT_SECONDS
