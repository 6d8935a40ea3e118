"""The documentation tells the truth: configurations in it load, links lead somewhere, made pages are up to date."""

import ast
import importlib
import re
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from volumen.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for folder in (".", "docs", "benchmarks") for path in (ROOT / folder).glob("*.md"))
BLOCKS = [
    pytest.param(block, id=f"{page.name}:{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_configuration_in_the_documentation_loads(block, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(block, encoding="utf-8")
    assert load_config(path).config.data.dataset


def test_there_are_configurations_in_the_documentation():
    assert BLOCKS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
        link = target[0] or target[1]
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.fixture(scope="module")
def made():
    """The module that makes pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        yield importlib.import_module("generate")


@pytest.mark.parametrize("page", ["api.md", "audit-your-code.md", "configuration.md", "metric.md"])
def test_made_pages_are_what_the_code_says(made, page):
    assert page in made.PAGES
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made.PAGES[page](), "run ./run docs"


def test_what_the_metric_page_concludes_follows_from_its_figures(made):
    found = {cost.name: cost for cost in made.metric_costs.costs()}
    score = {name: cost.clean.score for name, cost in found.items()}
    assert found["hole"].clean.topo.f1[1] == found["cavity"].clean.topo.f1[2] == pytest.approx(1 / 3)
    assert score["cavity"] - score["cavities"] < (1 - score["cavity"]) / 2
    assert found["hole"].holed.score > 0.99
    assert score["specks"] < score["lost"]
    assert min(found["specks"].clean.surface_dice, found["specks"].clean.voi.score) > 0.99
    assert found["lost"].clean.voi.score == 1
    assert found["bridge"].clean.voi.score < 0.9
    assert (found["shift-2"].clean.topo.score, found["shift-2"].clean.surface_dice) == (1, 1)
    assert score["shift-3"] < score["shift-2"] - 0.1
    assert score["shift-2"] < score["bridge"]
    assert (found["thicker"].clean.topo.score, found["thicker"].clean.surface_dice) == (1, 1)
    assert score["thicker"] < score["cut"]


def test_pictures_of_mistakes_are_what_the_code_draws(made):
    for name in made.metric_costs.PICTURED:
        stored = imagecodecs.png_decode((ROOT / "docs" / "images" / f"metric-{name}.png").read_bytes())
        np.testing.assert_array_equal(stored, made.metric_costs.picture(name))


COMMANDS = re.findall(r"^\./run (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_exist(command):
    assert re.search(rf"^{command}\)", (ROOT / "run").read_text(encoding="utf-8"), re.M)


def test_the_readme_has_commands():
    assert COMMANDS


NAMED = [
    pytest.param(page.parent / link, name, id=f"{page.name}:{name}")
    for page in PAGES
    for name, link in re.findall(r"`([\w.]+)`\s+in\s+\[`[^`]+`\]\(([^)]+\.py)\)", page.read_text(encoding="utf-8"))
]
"""What a page says stands in a module: `name` in [`module`](link)."""


def defined(source: Path) -> set[str]:
    """Functions, classes, their methods and tables that a module defines."""
    names = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{each.name}" for each in getattr(node, "body", []) if hasattr(each, "name")}
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            names |= {target.id} if isinstance(target, ast.Name) else set()
    return names


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_what_pages_name_stands_where_they_say(module, name):
    assert module.is_file(), f"{module} is gone"
    if name not in defined(module):
        homes = [path for path in (ROOT / "src").rglob("*.py") if name in defined(path)]
        pytest.fail(f"{name} is not in {module.name}; it is in {[str(path.relative_to(ROOT)) for path in homes]}")


def test_pages_name_functions():
    assert len(NAMED) > 20


def test_the_glossary_has_twenty_terms_in_a_few_sentences_each():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*(.+?)\.\*\* (.+?)(?=^\*\*|\Z)", text, re.S | re.M)
    assert len(terms) >= 20
    for term, meaning in terms:
        assert len(meaning.split()) <= 70, term
