"""The frame of every page: its head, its style, and the policy that forbids a browser everything else.

A page is one file without scripts and without a network. The policy makes a browser keep to that, whatever a record
may have brought in: pictures come from the page itself, the style is the one whose hash is named.
"""

import base64
import hashlib
from importlib.resources import files

from volumen.reporting.images import LEGEND
from volumen.reporting.markup import Markup, html, style


def page(title: str, body: Markup) -> Markup:
    """A whole page.

    Args:
        title: For the browser's tab.
        body: All that is to be seen.
    """
    sheet = _style_sheet()
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return html(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="{}"><title>{}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><style>{}</style></head><body>{}</body></html>\n',
        policy,
        title,
        style(sheet),
        body,
    )


def picture_source(png: bytes) -> str:
    """A PNG as the address of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _style_sheet() -> str:
    """The package's style sheet, and the colours of what is painted over the slices."""
    sheet = files("volumen.reporting").joinpath("assets/report.css").read_text(encoding="utf-8")
    return sheet + "".join(f".painted-{n} {{ --colour: rgb{colour}; }}\n" for n, (_, colour, _) in enumerate(LEGEND, 1))
