"""HTML by templates: whatever is filled in is escaped, unless it was made here before.

A template is a literal with braces, `html('<td class="{}">{:.3f}</td>', kind, value)`. The pages are made of `Markup`
and of nothing else, so text from a record cannot get into one without coming through `html`.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Formatter
from typing import Any

from volumen.reporting.words import printable


class Markup(str):
    """Text that is HTML already. Only `html`, `joined` and `style` make it."""

    __slots__ = ()


class _Escaping(Formatter):
    """Fills in a template; a field is a value, never a look into one."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The value itself: dots and brackets in a field are a mistake in the template."""
        return self.get_value(int(field_name) if field_name.isdigit() else field_name, args, kwargs), field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        """Markup as it is, everything else escaped."""
        return value if isinstance(value, Markup) else escape(printable(format(value, format_spec)), quote=True)


_FORMATTER = _Escaping()
NOTHING = Markup("")


def html(template: str, *values: str | float, **named: str | float) -> Markup:
    """Fill values into a template.

    Args:
        template: A literal; attributes stand in quotes, double braces are braces.
        values: For `{}`, with a format where need be; Markup goes in as it is, everything else is escaped.
        named: For `{name}`.
    """
    return Markup(_FORMATTER.vformat(template, values, named))


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
