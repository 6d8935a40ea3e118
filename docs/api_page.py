"""The page of the public interface, made from signatures, docstrings and the examples that a test runs."""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator

import api_examples
from pydantic import BaseModel

import volumen

HEAD = """# From Python

*Made from the docstrings by `./run docs`; the examples are run by a test, in this order, in one empty folder. Do not
edit.*

`import volumen` costs nothing: each name's module is imported when the name is first used. These names are the public
interface; whatever else the modules hold may change from one version to the next.

- Nothing is printed, but by `train(show=True)`. Mistakes that you can mend are `volumen.UserError`.
- Volumes are arrays [Z, Y, X]. Labels are 0 background, 1 surface, 2 ignore.
- `settings` are dotted keys of the [configuration](configuration.md) with their values, the command line's `-o`.
- A script that trains with worker processes (`data.workers`) needs the usual `if __name__ == "__main__":`.

The examples share these lines:

```python
from pathlib import Path

import numpy as np
import volumen

SMALL = {small}
```
"""


def api_page() -> str:
    """Every public name: what it is, how it is called, and an example."""
    parts = [HEAD.format(small=_assigned("SMALL"))]
    for title, examples in api_examples.PAGE.items():
        parts.append(f"## {title}\n")
        parts += [_entry(name, example) for name, example in examples.items()]
    return "\n".join(parts)


def _entry(name: str, example: Callable[[], None]) -> str:
    found = getattr(volumen, name)
    is_class = inspect.isclass(found)
    signature = [] if is_class else [f"```python\nvolumen.{name}{_signature(found)}\n```"]
    members = [*_fields(found), *_methods(found)] if is_class else []
    listed = ["\n".join(members)] if members else []
    parts = [f"### {name}", *signature, *_described(found), *listed, f"```python\n{_body(example)}\n```"]
    return "\n\n".join(parts) + "\n"


def _fields(found: type) -> Iterator[str]:
    """Public fields of a dataclass, with the text below each."""
    body = _parsed(found).body[0].body if dataclasses.is_dataclass(found) else []
    for node, below in itertools.zip_longest(body, body[1:]):
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            told = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            said = f": {_line(told)}" if told else ""
            yield f"- `.{ast.unparse(node.target)}` ({ast.unparse(node.annotation)}){said}"


def _methods(found: type) -> Iterator[str]:
    """Public methods and properties of a class of our own."""
    for name, value in vars(found).items() if found.__module__.startswith("volumen.") else ():
        if name.startswith("_") or issubclass(found, BaseModel):
            continue
        bare = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        told = _line(inspect.getdoc(bare) or "")
        if inspect.isfunction(bare):
            yield f"- `.{name}{_signature(bare)}`: {told}"
        elif isinstance(value, property | functools.cached_property):
            yield f"- `.{name}`: {told}"


def _described(found: object) -> Iterator[str]:
    """The docstring's paragraphs; sections with arguments and the like become lists."""
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(found) or ""):
        head, _, rest = paragraph.partition("\n")
        if not re.fullmatch(r"(Args|Returns|Raises):", head):
            yield paragraph if paragraph.startswith("    ") else " ".join(paragraph.split())
            continue
        items = re.split(r"\n(?! )", textwrap.dedent(rest))
        listed = (re.sub(r"^(\w+): ", r"`\1`: ", " ".join(item.split())) for item in items)
        yield f"**{head[:-1].replace('Args', 'Arguments')}**\n\n" + "\n".join(f"- {item}" for item in listed)


def _line(doc: str) -> str:
    """The first paragraph."""
    return " ".join(doc.split("\n\n")[0].split())


def _signature(function: Callable[..., object]) -> str:
    """Arguments and result as the source spells them."""
    node = _parsed(function).body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = ast.unparse(node.args)
    result = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"({re.sub(r'^(self|cls)(, )?', '', arguments)}){result}"


def _body(example: Callable[[], None]) -> str:
    source = inspect.getsource(example)
    return textwrap.dedent(source.partition(":\n")[2]).strip()


def _assigned(name: str) -> str:
    """What the examples assign to a name, as they spell it."""
    source = inspect.getsource(api_examples)
    found = re.search(rf"^{name} = (.*?^\}})", source, re.S | re.M)
    assert found is not None
    return found[1]


def _parsed(function: object) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))
