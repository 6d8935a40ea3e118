"""Pages are made of escaped templates, ask for nothing, and run nothing, whatever is filled in."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

import volumen.reporting
from volumen.data.pictures import LEGEND
from volumen.reporting.charts import Chart
from volumen.reporting.page import render, templates
from volumen.system.names import printable

ROOM = Path(volumen.reporting.__file__).parent
TEMPLATES = sorted(ROOM.glob("templates/*.html"))


class Texts(HTMLParser):
    """Elements with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, attrs))

    def handle_data(self, data):
        self.text += data


@given(st.text(st.characters()), st.text(st.characters()))
@example("'\"><script>", "</p><!--&amp;")
def test_a_text_comes_out_as_it_went_in_and_as_nothing_else(attribute, text):
    template = templates().from_string('<p title="{{ attribute }}">{{ text }}</p>')
    seen = Texts(template.render(attribute=attribute, text=text))
    assert [tag for tag, _ in seen.elements] == ["p"]
    ((name, value),) = seen.elements[0][1]
    lines = str.maketrans({"\r": "\n"})
    assert (name, (value or "").translate(lines)) == ("title", printable(attribute).translate(lines))
    assert seen.text.translate(lines) == printable(text).translate(lines)


@given(st.text(st.characters(), min_size=1))
@example("'\"><script>")
def test_what_is_shown_by_macros_is_escaped_once(text):
    template = templates().from_string(
        "{% import 'macros.html' as show %}{{ show.lines('note', [text]) }}{{ show.card(chart) }}"
    )
    seen = Texts(template.render(text=text, chart=Chart(text, drawing=Markup("<svg></svg>"))))
    assert [tag for tag, _ in seen.elements] == ["ul", "li", "figure", "h3", "svg"]
    assert seen.text.replace("\r", "\n").count(printable(text).replace("\r", "\n")) >= 2


def test_what_is_not_given_is_a_mistake():
    with pytest.raises(jinja2.UndefinedError):
        templates().from_string("{{ missing }}").render()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_fills_values_into_text_and_quoted_attributes_only(path):
    template = path.read_text(encoding="utf-8")
    assert not re.search(r"<script|<iframe|<form|<link|<object|\sstyle=|\son\w+=|https?://|@import", template)
    assert not re.search(r"\bsafe\b|autoescape|Markup", template)
    leads = re.findall(r"\b(?:href|src)=(.*)", template)
    assert all(lead.startswith(('"#', '"data:image/png;base64,')) for lead in leads)
    bare = re.sub(r'"[^"{}]*(?:\{\{.*?\}\}[^"{}]*)*"', '""', re.sub(r"\{%.*?%\}|\{#.*?#\}", "", template, flags=re.S))
    assert not re.search(r"<[a-z][^<>]*\{\{", bare), "a value stands in a tag and outside of quotes"


def test_nobody_but_a_drawing_and_the_style_sheet_makes_markup():
    makers = {path.stem for path in ROOM.glob("*.py") if re.search(r"\bMarkup\(", path.read_text(encoding="utf-8"))}
    assert makers == {"drawing", "page"}
    assert "<" not in (ROOM / "templates" / "style.css").read_text(encoding="utf-8")


def test_the_policy_names_the_style_and_allows_nothing_but_pictures_of_the_page_s_own():
    made = render("page.html")
    metas = [dict(attributes) for tag, attributes in Texts(made).elements if tag == "meta"]
    (policy,) = [meta for meta in metas if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    sheet = re.findall(r"<style>(.*?)</style>", made, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet[0].encode()).digest()).decode()
    assert rules == {"default-src": "'none'", "img-src": "data:", "style-src": f"'sha256-{digest}'",
                     "base-uri": "'none'", "form-action": "'none'"}  # fmt: skip
    assert len(sheet) == 1
    for number, (_, colour, _) in enumerate(LEGEND, 1):
        assert f".painted-{number} {{ --colour: rgb{colour}; }}" in sheet[0]
