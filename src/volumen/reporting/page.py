"""How every page is made: templates that escape whatever is filled in, in a frame that forbids a browser all else.

A page is one file without scripts and without a network. Its policy makes a browser keep to that, whatever a record may
have brought in: pictures come from the page itself, and the style is the one whose hash is named.
"""

import hashlib
from base64 import b64encode
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from volumen.data.pictures import LEGEND
from volumen.reporting.words import number
from volumen.system.names import printable
from volumen.system.output import counted


def render(template: str, **values: object) -> str:
    """A whole page.

    Args:
        template: A file of `templates/`.
        values: What it shows. Text is escaped and made printable; `Markup` goes in as it is.

    Raises:
        jinja2.UndefinedError: The template shows something that is not given.
    """
    sheet = _style_sheet()
    digest = _base64(hashlib.sha256(sheet.encode()).digest())
    return templates().get_template(template).render(**values, style_sheet=sheet, style_hash=f"sha256-{digest}")


@cache
def templates() -> Environment:
    """The files of `templates/`, with what they may call."""
    environment = Environment(
        loader=PackageLoader("volumen.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"base64": _base64, "number": number}
    environment.globals |= {"counted": counted, "legend": LEGEND}
    return environment


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


@cache
def _style_sheet() -> Markup:
    """The package's style sheet, and the colours of what is painted over the slices, for a `style` element."""
    sheet = files("volumen.reporting").joinpath("templates/style.css").read_text(encoding="utf-8")
    painted = "".join(f".painted-{n} {{ --colour: rgb{colour}; }}\n" for n, (_, colour, _) in enumerate(LEGEND, 1))
    return Markup(sheet + painted)
