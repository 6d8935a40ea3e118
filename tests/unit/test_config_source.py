"""The YAML reader: YAML 1.2's values, the line of every key, and no silent choice between two readings."""

import math
from typing import Any

import pytest

from volumen.config.problems import Problem
from volumen.config.source import Located, parse


def read(text: str) -> tuple[Located | None, list[Problem]]:
    problems: list[Problem] = []
    return parse(text, lambda line: f"f.yaml:{line}", problems), problems


def value(text: str) -> Any:
    tree, problems = read(f"a: {text}")
    assert problems == []
    assert tree is not None
    return tree.plain()["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("3", 3),
        ("-7", -7),
        ("0o17", 15),
        ("017", 17),
        ("0x1f", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("12:30:00", "12:30:00"),
        ("2026-01-01", "2026-01-01"),
        ("'1e-3'", "1e-3"),
        ('"null"', "null"),
        ("=", "="),
        ("!!str 5", "5"),
        ("[1, 2e0, x]", [1, 2.0, "x"]),
        ("{b: {}}", {"b": {}}),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    got = value(text)
    assert got == expected
    assert type(got) is type(expected)


def test_not_a_number_is_read() -> None:
    assert math.isnan(value(".nan"))


def test_every_key_and_item_knows_its_line() -> None:
    tree, problems = read("# comment\na:\n  b: 1\n\n  c:\n    - 1\n    - d: 2\n      e: {f: 3,\n          g: 4}\n")
    assert problems == []
    assert tree is not None
    origins: dict[str, str] = {}

    def walk(node: Located, path: str) -> None:
        origins[path] = node.origin
        inner = node.value
        for key, item in (
            inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        ):
            walk(item, f"{path}.{key}" if path else str(key))

    walk(tree, "")
    assert {key: int(origin.removeprefix("f.yaml:")) for key, origin in origins.items() if key} == {
        "a": 2,
        "a.b": 3,
        "a.c": 5,
        "a.c.0": 6,
        "a.c.1": 7,
        "a.c.1.d": 7,
        "a.c.1.e": 8,
        "a.c.1.e.f": 8,
        "a.c.1.e.g": 9,
    }


def test_every_pair_of_equal_keys_is_reported_with_both_lines() -> None:
    tree, problems = read("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 4\na: 5\n")
    assert [str(problem) for problem in problems] == [
        "f.yaml:5: b.c: the key is written twice, first at f.yaml:3; keep one of the two",
        "f.yaml:6: a: the key is written twice, first at f.yaml:1; keep one of the two",
        "f.yaml:7: a: the key is written twice, first at f.yaml:1; keep one of the two",
    ]
    assert tree is not None
    assert tree.plain() == {"a": 1, "b": {"c": 1, "d": 2}}


def test_a_number_and_its_text_are_the_same_key() -> None:
    _, problems = read("1: a\n'1': b\n")
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1, 2\nb: 3", 2),
        ("a: 1\nb: c: d", 2),
        ("a:\n\t- 1", 2),
        ("a: 'open", 1),
        ("a: 1\n---\nb: 1", 2),
        ("a: *x", 1),
    ],
)
def test_what_is_not_yaml_is_reported_at_its_line(text: str, line: int) -> None:
    tree, problems = read(text)
    assert tree is None
    assert len(problems) == 1
    assert problems[0].blocking
    assert str(problems[0]).startswith(f"f.yaml:{line}: not valid YAML: ")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("a: &x {p: 1}\nb: {<<: *x, q: 2}", "use `base:`"),
        ("a: 1\nb: !env HOME", "tag !env"),
        ("a: 1\nb: !env {x: 1}", "tag !env"),
        ("a: 1\nb: !env [1]", "tag !env"),
        ("a: 1\nb: &x [1, *x]", "contains itself"),
        ("a: 1\n? [1, 2]\n: 3", "a key must be a word"),
        ("a: 1\nb: !!int x", "'x' is not a int"),
        ("a: 1\nb: !!float [1]", "tag tag:yaml.org,2002:float"),
    ],
)
def test_what_says_more_than_it_shows_is_refused(text: str, fragment: str) -> None:
    _, problems = read(text)
    assert len(problems) == 1
    assert problems[0].origin == "f.yaml:2"
    assert fragment in problems[0].text


def test_an_alias_is_a_copy() -> None:
    tree, problems = read("a: &x [1, 2]\nb: *x\n")
    assert problems == []
    assert tree is not None
    assert tree.plain() == {"a": [1, 2], "b": [1, 2]}


def test_an_empty_document_is_null() -> None:
    tree, problems = read("# nothing but a comment\n")
    assert problems == []
    assert tree is not None
    assert tree.value is None
