"""HTML by templates: whatever is filled in is escaped, unless it was made here before.

A template is a literal with braces, `html('<td class="{}">{:.3f}</td>', kind, value)`. The pages are made of `Markup`
and of nothing else, so text from a record cannot get into one without coming through `html`.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from string import Formatter

from volumen.system.names import printable


class Markup(str):
    """Text that is HTML already. Only `html`, `joined` and `style` make it."""

    __slots__ = ()


NOTHING = Markup("")


def html(template: str, *values: str | float, **named: str | float) -> Markup:
    """Fill values into a template.

    Args:
        template: A literal; double braces are braces.
        values: For `{}`, with a format where need be; Markup goes in as it is, everything else is escaped.
        named: For `{name}`.

    Raises:
        TypeError: Too few or too many values, or one that is no Markup inside of a tag and outside of quotes, where
            escaping does not keep a text from becoming an attribute.
    """
    waiting: Iterator[str | float] = iter(values)
    parts = []
    for literal, field, specification, bare in _parsed(template):
        parts.append(literal)
        if field is None:
            continue
        value = named[field] if field else next(waiting, None)
        if value is None or (bare and not isinstance(value, Markup)):
            raise TypeError(f"the template {template!r} wants {'markup' if bare else 'another value'}, got {value!r}")
        if isinstance(value, Markup):
            parts.append(value)
        else:
            parts.append(escape(printable(format(value, specification)), quote=True))
    if next(waiting, None) is not None:
        raise TypeError(f"the template {template!r} has no place for so many values")
    return Markup("".join(parts))


@cache
def _parsed(template: str) -> tuple[tuple[str, str | None, str, bool], ...]:
    """Literal text, the field after it, its format, and whether the field stands in a tag outside of quotes."""
    found, inside, quote = [], False, ""
    for literal, field, specification, _ in Formatter().parse(template):
        for letter in literal:
            if quote:
                quote = "" if letter == quote else quote
            elif inside:
                quote, inside = (letter if letter in "\"'" else ""), letter != ">"
            else:
                inside = letter == "<"
        found.append((literal, field, specification or "", inside and not quote))
    return tuple(found)


def joined(parts: Iterable[Markup]) -> Markup:
    """One after the other."""
    return Markup("".join(parts))


def style(sheet: str) -> Markup:
    """A style sheet of the package's own for a `style` element, where nothing can be escaped.

    Raises:
        ValueError: It would end the element.
    """
    if "<" in sheet:
        raise ValueError("a style sheet must not hold '<': it could end the element that it stands in")
    return Markup(sheet)
