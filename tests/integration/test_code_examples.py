"""The code of docs/audit-your-code.md runs, and says what the page says."""

import importlib
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["bare", "steps", "monai"])
def test_the_tutorials_code_runs(name, tmp_path, monkeypatch, capsys):
    if name == "monai":
        pytest.importorskip("monai")
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.chdir(tmp_path)
    getattr(importlib.import_module("code_examples"), name)()
    assert name != "steps" or "Audit of code" in (tmp_path / "audit.html").read_text(encoding="utf-8")
