"""`volumen wheels` with a pip that answers from memory: what is pinned, kept, fetched again, and said."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.hostile import many

from volumen import __version__
from volumen.cli.main import run as volumen
from volumen.errors import UserError
from volumen.offline import Target, closure, folder
from volumen.system.locks import hold
from volumen.system.records import write_record


@dataclass
class Installed:
    version: str
    requires: list[str] | None = None


PACKAGES = {
    "volumen": Installed(
        __version__, ["torch>=2.10", "zarr>=3", "old; python_version<'3.12'", "monai; extra=='monai'"]
    ),
    "torch": Installed(
        "2.13.0+cpu", ["sympy", "colorama; platform_system=='Windows'", "cuda; platform_machine=='arm'"]
    ),
    "sympy": Installed("1.14.0", ["mpmath<1.4"]),
    "mpmath": Installed("1.3.0"),
    "zarr": Installed("3.1.0", ["numcodecs[fast]", "unused; extra == 'remote'"]),
    "numcodecs": Installed("0.16", ["Crc_32.c; extra=='fast'", "sphinx; extra=='docs'", "zarr"]),
    "crc-32-c": Installed("1.0"),
    "old": Installed("0.9"),
    "monai": Installed("1.6.1", ["torch"]),
}


def pins(target: Target | None = None, **options) -> list[str]:
    target = target or Target("3.11", ("manylinux_2_28_x86_64",))
    return [str(pin) for pin in closure(PACKAGES, target.environment, **options)]


def test_the_closure_goes_through_all_levels_extras_and_circles() -> None:
    expected = "crc-32-c==1.0 mpmath==1.3.0 numcodecs==0.16 old==0.9 sympy==1.14.0 torch==2.13.0+cpu zarr==3.1.0"
    assert pins() == expected.split()
    assert "monai==1.6.1" in pins(extras=["monai"])


def test_markers_are_judged_for_the_other_machine() -> None:
    assert "old==0.9" not in pins(Target("3.12", ("manylinux_2_28_x86_64",)))
    with pytest.raises(UserError, match="colorama, which torch needs there, is not installed here"):
        pins(Target("3.12", ("win_amd64",)))


def test_what_the_other_machine_has_leaves_out_what_only_that_needs() -> None:
    assert pins(without=["Torch"]) == ["crc-32-c==1.0", "numcodecs==0.16", "old==0.9", "zarr==3.1.0"]
    with pytest.raises(UserError, match="nothing needs it"):
        pins(without=["tourch"])


def test_a_version_that_does_not_fit_is_named() -> None:
    broken = {**PACKAGES, "mpmath": Installed("1.4.0")}
    with pytest.raises(UserError, match=r"mpmath 1.4.0 is installed, sympy needs <1.4"):
        closure(broken, Target().environment)


@pytest.mark.parametrize(
    ("version", "platforms"),
    [
        ("3", ()),
        ("2.7", ()),
        (None, ("plan9_x86_64",)),
        (None, ("manylinux_2_28",)),
        (None, ("win_amd64", "linux_x86_64")),
    ],
)
def test_targets_that_are_none(version, platforms) -> None:
    with pytest.raises(UserError, match="--"):
        assert Target(version, platforms).environment


def test_wheels_for_an_older_c_library_fit_too() -> None:
    options = Target("3.12", ("manylinux_2_18_x86_64",)).pip_options
    tags = options[3::2]
    assert tags[:3] == ["manylinux_2_18_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert tags[-1] == "manylinux1_x86_64"
    assert Target("3.12", ("manylinux2014_aarch64",)).pip_options[3::2][:2] == [
        "manylinux_2_17_aarch64", "manylinux2014_aarch64"
    ]  # fmt: skip
    assert Target(None, ("win_amd64",)).pip_options == ["--platform", "win_amd64"]


class Pip:
    """Answers as pip would, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.missing: set[str] = set()

    def __call__(self, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.asked.append(list(arguments))
        wanted, place = arguments[-3], Path(arguments[-1])
        if arguments[0] == "wheel":
            assert sorted(path.name for path in Path(wanted).iterdir()) == [
                "LICENSE",
                "README.md",
                "pyproject.toml",
                "src",
            ]
            wanted = f"volumen=={__version__}"
        if wanted in self.missing:
            return subprocess.CompletedProcess([], 1, "", f"ERROR: No matching distribution found for {wanted}\n")
        name, version = wanted.split("==")
        (place / f"{name.replace('-', '_')}-{version}-py3-none-any.whl").write_bytes(wanted.encode())
        return subprocess.CompletedProcess([], 0, "", "")

    def downloads(self) -> list[str]:
        return [asked[-3] for asked in self.asked if asked[0] == "download"]


@pytest.fixture
def pip(monkeypatch) -> Pip:
    one = Pip()
    monkeypatch.setattr(folder, "run_pip", one)
    monkeypatch.setattr(folder, "installed", lambda: PACKAGES)
    return one


OTHER = ["--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"]


def test_a_folder_is_filled_with_hashes_and_no_place_of_this_machine(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    assert volumen(["wheels", str(out), *OTHER, "--without", "torch"]) == 0
    text = capsys.readouterr().out
    assert f"install with: pip install --no-index --find-links {out} -r {out}/requirements.txt" in text
    assert "the other machine has to have: torch" in text
    lines = [line for line in (out / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line.split(" ")[0] for line in lines] == [
        "crc-32-c==1.0", "numcodecs==0.16", "zarr==3.1.0", f"volumen=={__version__}"
    ]  # fmt: skip
    for line in lines:
        assert line.endswith(f"--hash=sha256:{hashlib.sha256(line.split(' ')[0].encode()).hexdigest()}")
    assert len(list(out.glob("*.whl"))) == 4
    assert all(asked[3:8] == [":all:", *OTHER] for asked in pip.asked if asked[0] == "download")
    assert all("manylinux2014_x86_64" in asked for asked in pip.asked if asked[0] == "download")
    for name in ("requirements.txt", "wheels.json"):
        assert str(tmp_path) not in (out / name).read_text()
        assert "file:" not in (out / name).read_text()


def test_whole_wheels_are_kept_and_damaged_ones_fetched_again(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    pip.missing = {"zarr==3.1.0"}
    assert volumen(["wheels", str(out), *OTHER]) == 2
    error = capsys.readouterr().err
    assert "pip could not get a wheel of zarr==3.1.0" in error
    assert "No matching distribution" in error
    assert "--without zarr" in error
    assert not (out / "requirements.txt").exists()  # a folder with one is whole
    assert not list(out.glob(".partial*"))
    pip.missing, pip.asked = set(), []
    assert volumen(["wheels", str(out), *OTHER]) == 0
    assert pip.downloads() == ["zarr==3.1.0"]
    pip.asked = []
    (out / "sympy-1.14.0-py3-none-any.whl").write_text("damaged")
    (out / "mpmath-1.3.0-py3-none-any.whl").unlink()
    assert volumen(["wheels", str(out), *OTHER]) == 0
    assert pip.downloads() == ["mpmath==1.3.0", "sympy==1.14.0"]
    assert "3 wheels fetched, 4 kept" in capsys.readouterr().out


def test_a_folder_is_for_one_machine(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    assert volumen(["wheels", str(out), *OTHER]) == 0
    assert volumen(["wheels", str(out), "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"]) == 2
    assert "holds wheels for Python 3.12" in capsys.readouterr().err
    (out / "wheels.json").write_text("{")
    assert volumen(["wheels", str(out), *OTHER]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_where_volumen_comes_from(monkeypatch, tmp_path) -> None:
    checkout = folder.own_source()
    assert isinstance(checkout, Path)
    assert (checkout / "pyproject.toml").is_file()
    monkeypatch.setattr(folder.volumen, "__file__", str(tmp_path / "lib" / "python" / "volumen" / "__init__.py"))
    answers: dict[str, str | None] = {}
    monkeypatch.setattr(
        folder.metadata, "distribution", lambda name: type("D", (), {"read_text": lambda self, file: answers[file]})()
    )
    answers["direct_url.json"] = None
    assert folder.own_source() is None
    answers["direct_url.json"] = json.dumps(
        {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    )
    assert folder.own_source() == "git+https://host/x.git@abc"
    answers["direct_url.json"] = json.dumps({"url": "https://host/volumen.whl", "archive_info": {}})
    assert folder.own_source() == "https://host/volumen.whl"
    answers["direct_url.json"] = json.dumps({"url": checkout.as_uri(), "dir_info": {}})
    assert folder.own_source() == checkout
    answers["direct_url.json"] = json.dumps({"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    with pytest.raises(UserError, match="which is gone"):
        folder.own_source()


def edited(path: Path, change) -> None:
    """Change a folder's record as somebody would who knows how its check is made."""
    record = json.loads(path.read_text())
    del record["check"]
    change(record)
    write_record(path, record)


def test_a_poisoned_record_is_not_believed(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    assert volumen(["wheels", str(out), *OTHER]) == 0
    victim = tmp_path / "zarr-3.1.0-py3-none-any.whl"
    victim.write_bytes(b"something else")
    digest = hashlib.sha256(victim.read_bytes()).hexdigest()
    (out / "other-1.0-py3-none-any.whl").write_bytes(b"something else")
    for name in (f"../{victim.name}", str(victim), "other-1.0-py3-none-any.whl", "zarr", "", ".whl", "zarr-x-y-z.whl"):
        edited(
            out / "wheels.json",
            lambda record, name=name: record["wheels"].update({"zarr==3.1.0": {"file": name, "sha256": digest}}),
        )
        pip.asked = []
        assert volumen(["wheels", str(out), *OTHER]) == 0
        assert pip.downloads() == ["zarr==3.1.0"], name
        assert digest not in (out / "requirements.txt").read_text()
    assert victim.read_bytes() == b"something else"
    capsys.readouterr()
    for change in (
        lambda record: record.update(wheels=[]),
        lambda record: record.update(target=3),
        lambda record: record["wheels"].update(x=3),
        lambda record: record["wheels"].update(x={"file": 3, "sha256": "y"}),
        lambda record: record.clear(),
    ):
        before = (out / "wheels.json").read_bytes()
        edited(out / "wheels.json", change)
        assert volumen(["wheels", str(out), *OTHER]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "is damaged" in error
        (out / "wheels.json").write_bytes(before)


def test_any_flipped_bit_of_the_record_is_told(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    assert volumen(["wheels", str(out), *OTHER]) == 0
    content = (out / "wheels.json").read_bytes()
    for damaged in many([content], 21, 60):
        (out / "wheels.json").write_bytes(damaged)
        capsys.readouterr()
        code, error = volumen(["wheels", str(out), *OTHER]), capsys.readouterr().err
        assert code == (0 if "damaged" not in error and "no check" not in error else 2)
        assert error.count("\n") == (1 if code else 0)


def test_a_folder_that_is_in_use_or_cannot_be_written_is_told_before_pip_is_asked(pip, tmp_path, capsys) -> None:
    out = tmp_path / "wheels"
    with hold(out, "wheels"):
        assert volumen(["wheels", str(out), *OTHER]) == 2
    assert "is in use by `volumen wheels`" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert volumen(["wheels", str(tmp_path / "file" / "inside"), *OTHER]) == 2
    assert "cannot be written to" in capsys.readouterr().err
    assert pip.asked == []


def test_what_a_killed_call_left_behind_is_removed_and_nothing_else(pip, tmp_path) -> None:
    out, elsewhere = tmp_path / "wheels", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (out / ".partial-abc").mkdir(parents=True)
    (out / ".partial-file").touch()
    (out / ".partial-link").symlink_to(elsewhere)
    assert volumen(["wheels", str(out), *OTHER]) == 0
    assert not (out / ".partial-abc").exists()
    assert (elsewhere / "kept").exists()


def test_an_environment_that_is_damaged_is_told() -> None:
    with pytest.raises(UserError, match="damaged version 'what'"):
        closure({**PACKAGES, "zarr": Installed("what")}, Target().environment)
    with pytest.raises(UserError, match="a requirement that is none"):
        closure({**PACKAGES, "zarr": Installed("3.1.0", ["=="])}, Target().environment)
