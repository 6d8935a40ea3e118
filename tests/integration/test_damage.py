"""Bad days in small: forty damages, a handful of kills, a few sizes of a full disk; none of them does harm.

What is counted as harm, and every command that is tried, stands in `benchmarks/damage.py`, `kills.py`, `full_disk.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NO_TMPFS = 77  # exit code of full_disk.py
pytestmark = [
    pytest.mark.timeout(1500),  # the small world is trained first, and machines may be busy
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, and looked for in /proc"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the small world is kept from one test to the next."""
    return tmp_path_factory.mktemp("bad-days")


def bench(name: str, folder: Path, *options: str) -> tuple[int, str, list[dict[str, object]]]:
    """Exit code, what was printed, and everything that was found."""
    found = folder / f"{name}.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--folder", str(folder), "--json", str(found), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr, json.loads(found.read_text()) if found.is_file() else []


def test_forty_damages_change_no_number_in_silence(folder):
    code, said, found = bench("damage", folder, "--cases", "40", "--seconds", "600", "--jobs", "1", "--seed", "1")
    assert found, said
    assert code == 0, said


def test_whatever_is_killed_can_be_taken_up_again(folder):
    code, said, found = bench("kills", folder, "--kills", "4", "--seconds", "80", "--seed", "1")
    assert found, said
    assert code == 0, said


@pytest.mark.parametrize("command", ["prepare", "train, 0 workers", "bundle", "predict, 1 at a time"])
def test_a_full_disk_is_told_in_one_sentence_and_nothing_is_lost(folder, command):
    code, said, found = bench("full_disk", folder, "--only", command, "--kilobytes", "0,20,100")
    if code == NO_TMPFS:
        pytest.skip(said)
    assert len(found) == 3, said
    assert code == 0, said
