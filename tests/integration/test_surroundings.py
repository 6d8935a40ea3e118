"""The way of the README from the first command to the last, in the places where people really run it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import volumen

NETWORK = (
    "model.filters=2 model.depth=1 data.patch=[16,16,16] data.sampling.patches_per_epoch=4 data.batch=2 "
    "training.epochs=1 data.workers=1 precision=fp32 inference.engine=torch"
)
COMMANDS = (
    "phantom source --volumes 4 --size 32 --scrolls 2 --test-volumes 2",
    "prepare source --out prepared",
    "folds prepared --folds 2 --by volume",
    "train preset:default --out run --dataset prepared " + " ".join(f"-o {value}" for value in NETWORK.split()),
    "evaluate run",
    "report run",
    "tune run --out tuned --trials 4",
    "ensemble run --out model.volumen --postprocessing tuned/postprocessing.yaml",
    "predict model.volumen source/test_images out --parallel 2",
    "submit model.volumen source/test_images submission.zip --accept-degenerate",
    "score source/train_labels source/train_labels",
)
RESULTS = ("prepared/folds.json", "run/report.html", "model.volumen", "out/prediction.json", "submission.zip")
DRIVER = """
import shlex, sys
from volumen.cli.main import run
from volumen.system.output import open_output
if __name__ == "__main__":
    open_output()
    for command in sys.argv[1:]:
        print("$", command, flush=True)
        code = run(shlex.split(command))
        if code:
            sys.exit(code)
"""
BARE = """
import builtins, io, multiprocessing, multiprocessing.context, os, signal, sys
for name in ("resource", "fcntl"):
    sys.modules[name] = None
del os.sched_getaffinity, os.sysconf, signal.SIGHUP, signal.pthread_sigmask
multiprocessing.context._concrete_contexts.pop("forkserver")
multiprocessing.context.DefaultContext.get_all_start_methods = lambda self: ["spawn"]
multiprocessing.get_all_start_methods = lambda: ["spawn"]
real = io.open
def opened(file, *arguments, **options):
    if str(file).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "No such file or directory", str(file))
    return real(file, *arguments, **options)
builtins.open = io.open = opened
"""


def letters(folder: Path) -> tuple[dict[str, str | None], Path]:
    """Output in ASCII into a pipe, a folder with a space and an umlaut behind a link, no home."""
    place = folder / "Größe und Raum"
    place.mkdir()
    (folder / "Verweis ü").symlink_to(place)
    return {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "HOME": None}, folder / "Verweis ü"


def read_only(folder: Path) -> tuple[dict[str, str | None], Path]:
    """Neither package nor home take a file, and the temporary folder's path is longer than a socket's may be."""
    package = folder / "installed" / "volumen"
    shutil.copytree(Path(volumen.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for room in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (room / "__pycache__").touch()  # a file where the folder of what is kept would be: root may write anywhere
    temporary = folder / ("t" * (116 - len(str(folder))))
    temporary.mkdir()
    assert len(str(temporary)) == 117
    (folder / "no_home").touch()
    return {
        "PYTHONPATH": str(package.parent), "HOME": str(folder / "no_home"), "XDG_CACHE_HOME": None,
        "NUMBA_CACHE_DIR": None, "TMPDIR": str(temporary),
    }, folder  # fmt: skip


def bare(folder: Path) -> tuple[dict[str, str | None], Path]:
    """What Windows and macOS lack: `resource`, `/proc`, the fork server, locks of files, masks of signals."""
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(BARE)
    source = Path(volumen.__file__).parent.parent
    return {"PYTHONPATH": os.pathsep.join((str(folder / "hidden"), str(source)))}, folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("surroundings", [letters, read_only, bare])
def test_the_whole_way_is_gone(surroundings, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    changes, work = surroundings(folder)
    (folder / "driver.py").write_text(DRIVER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **changes}
    done = subprocess.run(
        [sys.executable, str(folder / "driver.py"), *COMMANDS], cwd=work, capture_output=True, check=False,
        env={name: value for name, value in environment.items() if value is not None},
    )  # fmt: skip
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    assert all((work / name).exists() for name in RESULTS)
    assert "Traceback" not in said
    assert "Warning" not in said
    if surroundings is letters:
        assert (done.stdout + done.stderr).isascii()
        assert "+-" in said
    assert said.count("cannot be kept") == (surroundings is read_only)
    assert not [path for path in folder.rglob("*") if path.name.startswith(("pymp-", "volumen-"))]
