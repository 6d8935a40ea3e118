"""The door for others: names of changes, the changelog they make, and one version everywhere."""

import importlib
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import volumen

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def changelog():
    """The module that makes the changelog."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "changes")
        yield importlib.import_module("changelog")


def test_every_change_is_named_and_short(changelog):
    for path in changelog.fragments():
        text = path.read_text(encoding="utf-8").strip()
        assert max(map(len, text.splitlines())) <= 120, path.name
        assert not text.startswith(("-", "*", "#")), path.name
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert link.startswith("https://") or (ROOT / link).exists(), f"{path.name} links to {link}"
    assert set((ROOT / "changes").iterdir()) - {ROOT / "changes" / "__pycache__"} == {
        *changelog.fragments(),
        ROOT / "changes" / "README.md",
        ROOT / "changes" / "changelog.py",
    }


@pytest.mark.parametrize("name", ["Upper.added.md", "a.better.md", "a.md", "a b.fixed.md", "a_b.fixed.md"])
def test_a_change_of_another_name_is_refused(changelog, tmp_path, name):
    (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match=r"NAME\.KIND\.md"):
        changelog.fragments(tmp_path)


def test_an_empty_change_is_refused(changelog, tmp_path):
    (tmp_path / "a.added.md").write_text(" \n")
    with pytest.raises(ValueError, match="empty"):
        changelog.section(tmp_path)


def test_a_release_moves_every_change_into_the_changelog_once(changelog, tmp_path):
    folder, log = tmp_path / "changes", tmp_path / "CHANGELOG.md"
    folder.mkdir()
    (folder / "README.md").write_text("stays")
    (folder / "b.fixed.md").write_text("Mended\nin two lines.\n")
    (folder / "a.added.md").write_text("New.\n")
    log.write_text("# Changelog\n\n## 0.1.0\n\nOld.\n")
    changelog.release("0.2.0", folder, log)
    assert log.read_text() == (
        "# Changelog\n\n## 0.2.0\n\n### Added\n- New.\n\n### Fixed\n- Mended\n  in two lines.\n\n## 0.1.0\n\nOld.\n"
    )
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    with pytest.raises(ValueError, match="no file"):
        changelog.release("0.3.0", folder, log)
    (folder / "a.added.md").write_text("Again.")
    with pytest.raises(ValueError, match="already"):
        changelog.release("0.2.0", folder, log)


def test_the_version_is_one():
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == volumen.__version__


def test_hooks_and_pages_call_commands_that_exist():
    script = (ROOT / "run").read_text(encoding="utf-8")
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in (".pre-commit-config.yaml", "CONTRIBUTING.md")]
    called = {name for text in texts for name in re.findall(r"\./run (\w+)", text)}
    assert {"format", "lint", "test", "docs"} <= called
    for name in called:
        assert re.search(rf"^{name}\)", script, re.M), name
