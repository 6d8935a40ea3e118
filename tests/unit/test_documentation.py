"""The documentation tells the truth: configurations in it load, links lead somewhere, made pages are up to date."""

import importlib.util
import re
from pathlib import Path

import pytest

from volumen.config import load_config

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


def test_the_configuration_page_is_what_the_schema_says():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.PAGE.read_text(encoding="utf-8") == generate.configuration_page(), "run ./run docs"


COMMANDS = re.findall(r"^\./run (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_exist(command):
    assert re.search(rf"^{command}\)", (ROOT / "run").read_text(encoding="utf-8"), re.M)
