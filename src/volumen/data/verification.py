"""Verify the packed files of a training beside it, at the speed of the disk, and notice when one changes under it."""

import threading
from collections.abc import Callable, Sequence

from volumen.data.packed import DamagedDataError, PackedArray, Signature


class Verification:
    """A thread that hashes files once; hashing runs outside of Python's lock.

    Args:
        arrays: The files of the training.
        signature_of: Verifies one and gives its signature; replaced in tests.
    """

    def __init__(
        self, arrays: Sequence[PackedArray], signature_of: Callable[[PackedArray], Signature] = PackedArray.verify
    ) -> None:
        self._arrays, self._signature_of = tuple(arrays), signature_of
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="verification of the data", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End after the file in hand."""
        self._stop.set()

    def raise_if_damaged(self) -> None:
        """Tell what has been found so far; never waits.

        Raises:
            DamagedDataError: A file is not what was packed.
        """
        if self._error is not None:
            raise self._error

    @property
    def is_done(self) -> bool:
        """Whether every file has been verified."""
        return not self._thread.is_alive() and self._error is None and not self._stop.is_set()

    def confirm(self) -> None:
        """Wait until every file has been verified, and look whether one has changed since.

        Raises:
            DamagedDataError: A file is not what was packed.
        """
        self._thread.join()
        self.raise_if_damaged()
        for array in self._arrays:
            self._signature_of(array)

    def _run(self) -> None:
        for array in self._arrays:
            if self._stop.is_set():
                return
            try:
                self._signature_of(array)
            except Exception as error:
                self._error = error if isinstance(error, DamagedDataError) else DamagedDataError(str(error))
                return
