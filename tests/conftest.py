"""Shared fixtures: where the real data sets are, and what happens without them.

The real volumes and the metric fixtures live beside the checkout in `../shared` and are never copied into it. Where
`CI=true` their absence is a failure; on a stranger's clone the tests that need them skip with a reason.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background, which no command may interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # a job that survives its terminal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

CARDS = "CUDA_VISIBLE_DEVICES"
SHOWN = "VOLUMEN_TESTS_CARDS"
"""Keeps what the caller lets programs see of the cards, also for pytest's own workers."""
ALL_CARDS = "all"


def pytest_configure(config: pytest.Config) -> None:
    """Tests are about the CPU: a card is hidden from them and from the processes they start, and what they compare is
    the same on every machine. Only `pytest -m cuda` shows it; `test_cuda.py` calls that where there is a card.
    """
    if not _wants_cards(config):
        os.environ.setdefault(SHOWN, os.environ.get(CARDS, ALL_CARDS))
        os.environ[CARDS] = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a card where none is seen."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    if not _wants_cards(config):
        reason = "a card is hidden from the other tests: pytest -m cuda"
    else:
        import torch

        if torch.cuda.is_available():
            return
        reason = "PyTorch sees no CUDA device"
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=reason))


def _wants_cards(config: pytest.Config) -> bool:
    return str(config.getoption("markexpr", "")).strip() == "cuda"


# A busy machine, or a kernel that is compiled at its first call, is no failure of a law.
settings.register_profile("volumen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("volumen")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        reason = f"{folder} is not there: the real data sets are not part of the repository"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def semi() -> Path:
    """The competition-layout data set made of real scroll wraps."""
    return _shared_folder("data/semi")


@pytest.fixture(scope="session")
def ovules() -> Path:
    """Real confocal volumes with cell walls as thin sheets."""
    return _shared_folder("data/ovules")


@pytest.fixture(scope="session")
def scrollct() -> Path:
    """One real scroll CT cube without surface labels."""
    return _shared_folder("data/scrollct")


@pytest.fixture(scope="session")
def metric_fixtures() -> Path:
    """Volumes with every number the hosts' metric gives for them."""
    return _shared_folder("fixtures/metric")


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small inputs in clothes that the package's own files do not wear."""
    out = tmp_path_factory.mktemp("cases")
    script = _shared_folder("cases") / "make_cases.py"
    subprocess.run([sys.executable, str(script), str(out)], check=True, capture_output=True)
    return out
