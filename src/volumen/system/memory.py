"""How much memory there is for what is about to be computed, so that it is refused before it is allocated."""

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Memory that a process could have now: of the machine and of the group of processes it is put into.

    Returns:
        None where the system does not tell; Linux does.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return None
    return min([*sizes, *_group_rooms()], default=None)


def _group_rooms() -> list[int]:
    """What is left of the limits of control groups, versions 2 and 1."""
    rooms = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = ((CGROUP / name).read_text(encoding="ascii").strip() for name in (limit, used))
            rooms.append(max(int(most) - int(now), 0))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return rooms
