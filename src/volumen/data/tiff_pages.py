"""The chain of a TIFF file's pages, walked by its own layout: what a reader would take for the end may be a cut.

Source: TIFF 6.0, and BigTIFF as libtiff defines it.
"""

import struct
from collections.abc import Iterator

MOST_PAGES = 2**17
MOST_TAGS = 500  # of a page; usual are twenty


class DamageError(Exception):
    """What is wrong with a file, worded to follow its name."""


def page_offsets(content: bytes) -> Iterator[int]:
    """Offsets of all pages (image file directories), following the chain by the TIFF 6.0 and BigTIFF layouts.

    Raises:
        DamageError: no TIFF, or the chain leaves the file or runs in a circle.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    version = struct.unpack(f"{order}H", content[2:4])[0] if order and len(content) >= 16 else None
    if version not in (42, 43):
        raise DamageError(f"is no TIFF file ({len(content)} bytes, begins with {content[:4]!r}): export it again")
    big = version == 43
    count_format, entry_size, link_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    count_size, link_size = struct.calcsize(f"<{count_format}"), struct.calcsize(f"<{link_format}")
    (offset,) = struct.unpack_from(f"{order}{link_format}", content, 8 if big else 4)
    seen: set[int] = set()
    while offset != 0:
        if offset in seen:
            raise DamageError("is damaged: its pages run in a circle: export it again")
        seen.add(offset)
        if len(seen) > MOST_PAGES:
            raise DamageError(f"has more than {MOST_PAGES} pages, which no volume has: export it again")
        end, entries = len(content) + 1, 0
        if offset + count_size <= len(content):
            (entries,) = struct.unpack_from(f"{order}{count_format}", content, offset)
            end = offset + count_size + entries * entry_size + link_size
        if end > len(content):
            raise DamageError(
                f"is truncated after {len(seen) - 1} pages: the next one should be at byte {offset}, the file has "
                f"{len(content)}: copy or export it again"
            )
        if entries > MOST_TAGS:
            raise DamageError(f"is damaged: page {len(seen) - 1} has {entries} tags, usual are twenty: export it again")
        yield offset
        (offset,) = struct.unpack_from(f"{order}{link_format}", content, end - link_size)
    if not seen:
        raise DamageError("is a TIFF file without pages: export it again")
