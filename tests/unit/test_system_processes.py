"""Worker processes do not hear what a terminal sends to a whole group of processes, from their first instruction on."""

import signal
import sys

import pytest

from volumen.system.processes import pool_of


def blocked() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


@pytest.mark.skipif(sys.platform == "win32", reason="signals can be blocked on POSIX only")
def test_workers_are_started_deaf_and_the_one_in_charge_hears() -> None:
    before = blocked()
    with pool_of(2) as pool:
        masks = [pool.schedule(blocked).result() for _ in range(4)]
    assert all({signal.SIGINT, signal.SIGHUP} <= mask for mask in masks)
    assert not any(signal.SIGTERM in mask for mask in masks)  # by which the one in charge ends them
    assert blocked() == before
