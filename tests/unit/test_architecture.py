"""No import runs upwards or across but those that docs/architecture.md names; modules and functions stay short."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import volumen

SOURCE = Path(volumen.__file__).resolve().parent
PAGE = SOURCE.parents[1] / "docs" / "architecture.md"
LONGEST_MODULE = 350
"""Lines."""
LONGEST_FUNCTION = 50
"""Lines, its docstring apart."""
MOST_LONG_FUNCTIONS = 8


@dataclass(frozen=True)
class Rules:
    """The block of the page."""

    level: dict[str, int]
    """Of every room, and of every module that belongs to none."""
    exceptions: frozenset[tuple[str, str]]
    circles: frozenset[frozenset[str]]

    def forbids(self, importer: str, imported: str) -> bool:
        """Whether a module may not import another, exceptions apart."""
        one, other = importer.split(".")[0], imported.split(".")[0]
        return one != other and self.level[other] >= self.level[one]

    def excepts(self, importer: str, imported: str) -> set[tuple[str, str]]:
        """The exceptions that allow it."""
        return {rule for rule in self.exceptions if within(importer, rule[0]) and within(imported, rule[1])}


def within(module: str, place: str) -> bool:
    """Whether a module is one, or in a room."""
    return module == place or module.startswith(f"{place}.")


def read_rules(page: str) -> Rules:
    """The rules that a page states."""
    (block,) = re.findall(r"^```imports\n(.*?)^```", page, re.S | re.M)
    level: dict[str, int] = {}
    exceptions, circles = set(), set()
    for number, line in enumerate(filter(None, block.splitlines())):
        kind, _, rest = line.partition(": ")
        if kind == "exception":
            pair, reason = rest.split(": ", 1)
            assert reason.strip(), f"{line} gives no reason"
            one, other = pair.split(" -> ")
            exceptions.add((one, other))
        elif kind == "circle":
            circles.add(frozenset(rest.split(", ")))
        else:
            level |= dict.fromkeys(line.split(", "), number)
    return Rules(level, frozenset(exceptions), frozenset(circles))


def modules() -> dict[str, Path]:
    """Every module by its name below `volumen`; a package is called as its folder."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()
RULES = read_rules(PAGE.read_text(encoding="utf-8"))


def imports(name: str, source: str) -> Iterator[str]:
    """What a module of the package imports of it, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively: write the module's whole name"
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in wanted:
            parts = full.split(".")
            if parts[0] != "volumen":
                continue
            below = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
            if parts[1:] == ["__version__"]:
                yield "_version"
            else:
                yield next((module for module in below if module in MODULES), "__init__")


IMPORTS = {name: set(imports(name, path.read_text(encoding="utf-8"))) - {name} for name, path in MODULES.items()}


def test_every_room_has_a_place():
    rooms = {name.split(".")[0] for name in MODULES}
    assert rooms == set(RULES.level), "name each room, and nothing else, in the block of docs/architecture.md"


@pytest.mark.parametrize("room", sorted(RULES.level))
def test_no_import_runs_upwards_or_across(room):
    wrong = [
        f"{importer} imports {imported}"
        for importer, found in IMPORTS.items()
        for imported in found
        if within(importer, room) and RULES.forbids(importer, imported) and not RULES.excepts(importer, imported)
    ]
    assert not wrong


def test_every_exception_is_needed():
    used = {
        rule
        for importer, found in IMPORTS.items()
        for imported in found
        if RULES.forbids(importer, imported)
        for rule in RULES.excepts(importer, imported)
    }
    assert used == RULES.exceptions, "take the others out of docs/architecture.md"


def reachable(start: str) -> set[str]:
    """Modules that a module imports, through others too."""
    found: set[str] = set()
    waiting = list(IMPORTS[start])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += IMPORTS[module]
    return found


def test_modules_import_each_other_in_no_circle_but_the_known():
    reached = {name: reachable(name) for name in MODULES}
    circles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in MODULES
        if name in reached[name]
    }
    assert circles == RULES.circles, f"docs/architecture.md names {sorted(map(sorted, RULES.circles))}"


def test_the_rules_find_what_they_are_for():
    rules = read_rules("```imports\nlow\nmiddle, beside\nhigh\n\nexception: low.one -> high.two: because\n```\n")
    assert rules.forbids("low.one", "high.two")
    assert rules.excepts("low.one", "high.two")
    assert not rules.excepts("low.other", "high.two")
    assert not rules.excepts("low.one", "high.twofold")
    assert rules.forbids("middle.one", "beside")
    assert not rules.forbids("high", "low.one")
    assert not rules.forbids("low.one", "low.two")
    hidden = "if TYPE_CHECKING:\n    from volumen.data import labels\ndef f():\n    import volumen.cli.main\n"
    assert set(imports("here", hidden)) == {"data.labels", "cli.main"}
    assert set(imports("here", "from volumen import __version__, errors, Model")) == {"_version", "errors", "__init__"}


def long_functions() -> dict[str, int]:
    """Lines without the docstring, of functions that have more than they should."""
    found = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                if lines > LONGEST_FUNCTION:
                    found[f"{name}.{node.name}"] = lines
    return found


def test_modules_are_short():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    long = {name: count for name, count in lines.items() if count > LONGEST_MODULE}
    assert not long, f"longer than {LONGEST_MODULE} lines"


def test_few_functions_are_long():
    found = long_functions()
    assert len(found) <= MOST_LONG_FUNCTIONS, f"longer than {LONGEST_FUNCTION} lines: {found}"
