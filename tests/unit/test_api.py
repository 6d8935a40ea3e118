"""The public names: declared once, imported late, silent."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import volumen
from volumen.api.commands import overrides_of
from volumen.api.records import Records

SOURCE = Path(volumen.__file__)
HEAVY = {"torch", "numpy", "scipy", "numba", "pydantic"}


def declared() -> dict[str, str]:
    """What type checkers see, by name: the module that each public name is imported from."""
    found = {}
    for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module != "typing":
            found |= {alias.name: node.module for alias in node.names}
    return found


def test_what_type_checkers_see_is_what_is_imported():
    typed = declared()
    assert sorted(typed) == sorted({*volumen.__all__, "import_module"})
    for name in set(volumen.__all__) - {"__version__"}:
        assert getattr(volumen, name) is getattr(importlib.import_module(typed[name]), name)


def test_every_public_name_is_listed_and_explained():
    assert set(volumen.__all__) <= set(dir(volumen))
    for name in set(volumen.__all__) - {"__version__"}:
        assert (getattr(volumen, name).__doc__ or "").strip(), name


def test_no_name_hides_a_room():
    rooms = {path.stem for path in SOURCE.parent.iterdir()}
    assert not rooms & set(volumen.__all__)


def test_a_name_that_does_not_exist_is_told():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = volumen.no_such_name


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, volumen; dir(volumen); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_scoring_does_not_wait_for_torch():
    code = "import sys, volumen; volumen.leaderboard, volumen.overlap, volumen.prepare; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" not in loaded


def test_types_are_shipped():
    assert (SOURCE.parent / "py.typed").is_file()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("no_such_preset", "scroll"),
        ([{"kind": "treshold"}], "kind|tag"),
        ([{"kind": "threshold", "level": 2.0}], "level"),
        ([], "exactly one threshold"),
    ],
)
def test_wrong_steps_are_the_users_mistake(steps, message):
    with pytest.raises(volumen.UserError, match=message):
        volumen.make_mask(np.zeros((8, 8, 8)), steps)


@pytest.mark.parametrize("probabilities", [np.zeros((8, 8)), np.full((8, 8, 8), 1.5), np.full((8, 8, 8), np.nan)])
def test_what_is_no_probability_is_refused(probabilities):
    with pytest.raises(volumen.UserError, match="0 to 1"):
        volumen.make_mask(probabilities)


def test_a_mask_leaves_out_what_the_scan_does_not_hold():
    scan = np.ones((8, 8, 8), bool)
    scan[:4] = False
    mask = volumen.make_mask(np.ones((8, 8, 8)), [{"kind": "threshold"}], scan=scan)
    np.testing.assert_array_equal(mask, scan)
    with pytest.raises(volumen.UserError, match="shape"):
        volumen.make_mask(np.ones((8, 8, 8)), scan=scan[1:])


def test_records_are_columns_of_one_length():
    found = Records({"epoch": [0, 1], "total": [0.5, None]})
    assert (list(found), len(found), found["total"]) == (["epoch", "total"], 2, [0.5, None])


def test_a_data_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(volumen.UserError, match="pip install pandas"):
        Records({"epoch": [0]}).to_pandas()


def test_a_data_frame_holds_the_columns(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", type("Pandas", (), {"DataFrame": staticmethod(dict)}))
    assert Records({"epoch": [0]}).to_pandas() == {"epoch": [0]}


def test_settings_are_what_the_command_line_would_take():
    settings = {"data.patch": [32, 32, 32], "data.dataset": Path("1e5"), "inference.mirror": True}
    loaded = volumen.load_config("preset:default", overrides_of(settings)).config
    assert (loaded.data.patch, loaded.data.dataset, loaded.inference.mirror) == ((32, 32, 32), "1e5", True)
