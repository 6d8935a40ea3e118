"""`volumen wheels` with a pip that answers from memory: what is pinned, fetched, checked and said."""

import hashlib
from importlib import metadata
from pathlib import Path

import pytest

from volumen import __version__
from volumen.cli.main import run as volumen
from volumen.errors import UserError
from volumen.system import wheels
from volumen.system.locks import hold

LINUX = ["manylinux_2_28_x86_64"]
OTHER = ["--python-version", "3.12", "--platform", *LINUX]
PACKAGES = {
    "volumen": ("0.1.0", ["torch>=2.10", "zarr>=3", "old; python_version<'3.12'", "monai; extra=='monai'"]),
    "torch": ("2.13.0", ["sympy", "colorama; platform_system=='Windows'", "cuda; platform_machine=='aarch64'"]),
    "sympy": ("1.14.0", ["mpmath<1.4"]),
    "mpmath": ("1.3.0", None),
    "zarr": ("3.1.0", ["numcodecs[fast]", "unused; extra == 'remote'"]),
    "numcodecs": ("0.16", ["Crc_32.c; extra=='fast'", "sphinx; extra=='docs'", "zarr"]),
    "crc-32-c": ("1.0", None),
    "old": ("0.9", None),
    "monai": ("1.6.1", ["torch"]),
}


class Installed:
    """Of `importlib.metadata`, what is asked here."""

    PackageNotFoundError = metadata.PackageNotFoundError

    def version(self, name):
        if name not in PACKAGES:
            raise metadata.PackageNotFoundError(name)
        return PACKAGES[name][0]

    def distribution(self, name):
        return type("Distribution", (), {"requires": PACKAGES[name][1]})()


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(wheels, "metadata", Installed())


def pins(version="3.11", platforms=LINUX, without=(), extras=()) -> list[str]:
    found = wheels.needed(wheels.environment_of(version, platforms), without, extras)
    return [f"{name}=={one}" for name, one in found.items()]


def test_the_closure_goes_through_all_levels_extras_and_circles() -> None:
    expected = "crc-32-c==1.0 mpmath==1.3.0 numcodecs==0.16 old==0.9 sympy==1.14.0 torch==2.13.0 zarr==3.1.0"
    assert pins() == expected.split()
    assert "monai==1.6.1" in pins(extras=["monai"])


def test_markers_are_judged_for_the_other_machine() -> None:
    assert "old==0.9" not in pins("3.12")
    with pytest.raises(UserError, match="cuda, which torch needs there, is not installed here"):
        pins(platforms=["manylinux2014_aarch64"])


def test_what_the_other_machine_has_leaves_out_what_only_that_needs() -> None:
    assert pins(without=["Torch"]) == ["crc-32-c==1.0", "numcodecs==0.16", "old==0.9", "zarr==3.1.0"]
    with pytest.raises(UserError, match="nothing needs it"):
        pins(without=["tourch"])


@pytest.mark.parametrize(("version", "platforms"), [("3", ()), ("2.7", ()), (None, ["win_amd64"]), (None, ["linux"])])
def test_targets_that_are_none(version, platforms) -> None:
    with pytest.raises(UserError, match="--"):
        wheels.environment_of(version, platforms)


def test_wheels_for_an_older_c_library_fit_too() -> None:
    tags = wheels.fitting_tags("manylinux_2_18_x86_64")
    assert tags[:3] == ["manylinux_2_18_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert tags[-1] == "manylinux1_x86_64"
    assert wheels.fitting_tags("manylinux2014_aarch64")[:2] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


class Pip:
    """Answers as pip would, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.fails = ""

    def __call__(self, *arguments: str) -> None:
        self.asked.append(arguments)
        if arguments[0] == self.fails:
            raise UserError("pip could not")
        for option in ("--dest", "--wheel-dir"):
            if option in arguments:
                place = arguments.index(option) + 1
                for pin in arguments[place + 1 :] if option == "--dest" else [f"volumen=={__version__}"]:
                    name, version = pin.split("==")
                    wheel = Path(arguments[place], f"{name.replace('-', '_')}-{version}-py3-none-any.whl")
                    wheel.write_bytes(pin.encode())
        if arguments[0] == "wheel":
            built_of = sorted(path.name for path in Path(arguments[-1]).iterdir())
            assert built_of == ["LICENSE", "README.md", "pyproject.toml", "src"]


@pytest.fixture
def pip(monkeypatch) -> Pip:
    one = Pip()
    monkeypatch.setattr(wheels, "run_pip", one)
    return one


def test_a_folder_is_filled_with_hashes_and_no_place_of_this_machine(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    assert volumen(["wheels", str(out), *OTHER, "--without", "torch"]) == 0
    text = capsys.readouterr().out
    assert f"install with: pip install --no-index --find-links {out} -r {out}/requirements.txt" in text
    assert "the other machine has to have: torch" in text
    lines = (out / "requirements.txt").read_text().splitlines()
    expected = ["crc-32-c==1.0", "numcodecs==0.16", "zarr==3.1.0", f"volumen=={__version__}"]
    assert [line.split(" ")[0] for line in lines] == expected
    for line in lines:
        assert line.endswith(f"--hash=sha256:{hashlib.sha256(line.split(' ')[0].encode()).hexdigest()}")
    assert str(tmp_path) not in (out / "requirements.txt").read_text()
    download, _, check = pip.asked
    assert {"--no-deps", ":all:", "3.12", "manylinux2014_x86_64"} <= set(download) & set(check)
    assert {"--require-hashes", "--dry-run", "--no-index"} <= set(check)


@pytest.mark.parametrize("step", ["download", "wheel", "install"])
def test_a_folder_with_requirements_is_whole(pip, tmp_path, step) -> None:
    out = tmp_path / "wheels"
    assert volumen(["wheels", str(out), *OTHER]) == 0
    pip.fails = step
    assert volumen(["wheels", str(out), *OTHER]) == 2
    assert not (out / "requirements.txt").exists()
    pip.fails = ""
    assert volumen(["wheels", str(out), *OTHER]) == 0
    assert (out / "requirements.txt").exists()


def test_a_folder_that_is_in_use_or_cannot_be_written_is_told_before_pip_is_asked(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    with hold(out, "wheels"):
        assert volumen(["wheels", str(out), *OTHER]) == 2
    assert "is in use by `volumen wheels`" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert volumen(["wheels", str(tmp_path / "file" / "inside"), *OTHER]) == 2
    assert "cannot be written to" in capsys.readouterr().err
    assert pip.asked == []


def test_what_pip_says_is_handed_on(tmp_path) -> None:
    with pytest.raises(UserError, match=r"pip could not download the wheels(.|\n)*pip: ERROR") as caught:
        wheels.run_pip("download", "--no-index", "--dest", str(tmp_path), "not-there==1.0")
    assert "--without" in str(caught.value)
