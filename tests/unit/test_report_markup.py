"""Pages are made of escaped markup: by the one function that makes it, and by how it is called everywhere."""

import ast
import base64
import hashlib
import html as standard
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import volumen.reporting
from volumen.reporting.curves import WIDTH, Axes, Series, drawable, histogram_chart, line_chart, nice_ticks
from volumen.reporting.images import LEGEND
from volumen.reporting.markup import Markup, html, joined, style
from volumen.reporting.page import page
from volumen.system.names import printable

MODULES = sorted(Path(volumen.reporting.__file__).parent.glob("*.py"))
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.none()


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
    seen = Texts(html("<p title='{}'>{}</p>", attribute, text))
    assert [tag for tag, _ in seen.elements] == ["p"]
    ((name, value),) = seen.elements[0][1]
    lines = str.maketrans({"\r": "\n"})
    assert (name, (value or "").translate(lines)) == ("title", printable(attribute).translate(lines))
    assert seen.text.translate(lines) == printable(text).translate(lines)


def test_markup_goes_in_as_it_is_and_once():
    inner = html("<b>{}</b>", "a & b")
    assert html("<p>{}</p>", inner) == "<p><b>a &amp; b</b></p>"
    assert joined([inner, inner]) == f"{inner}{inner}"
    assert not isinstance(inner + "<i>", Markup)  # what is put together otherwise is text again
    assert html("{}", inner + "") == standard.escape(inner)
    assert html("{:.2f} {name}", 1.234, name="<") == "1.23 &lt;"
    assert html("{{}}") == "{}"


@pytest.mark.parametrize(
    ("template", "values"),
    [("<p {}>", ("x onclick=y",)), ("<{}>", ("script",)), ("<p id={}>", ("a b",)), ("{}", ()), ("{}", ("a", "b"))],
)
def test_where_escaping_is_not_enough_and_where_values_do_not_fit_is_a_mistake(template, values):
    with pytest.raises(TypeError):
        html(template, *values)


def test_a_style_sheet_cannot_end_its_element():
    with pytest.raises(ValueError, match="'<'"):
        style("</style><script>")


def test_the_policy_names_the_style_and_allows_nothing_but_pictures_of_the_page_s_own():
    made = page("t", html("<main></main>"))
    policy = dict(Texts(made).elements[3][1])
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    sheet = re.findall(r"<style>(.*?)</style>", made, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet[0].encode()).digest()).decode()
    assert rules == {"default-src": "'none'", "img-src": "data:", "style-src": f"'sha256-{digest}'",
                     "base-uri": "'none'", "form-action": "'none'"}  # fmt: skip
    assert len(sheet) == 1
    for number, (_, colour, _) in enumerate(LEGEND, 1):
        assert f".painted-{number} {{ --colour: rgb{colour}; }}" in sheet[0]


def templates(module: Path) -> list[str]:
    """Every template of a module; one that is no literal fails."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not (isinstance(call.func, ast.Name) and call.func.id == "html"):
            continue
        around = [each for each in functions if each.lineno <= call.lineno <= (each.end_lineno or 0)]
        found += literals(call.args[0], around[-1] if around else tree, f"{module.name}:{call.lineno}")
    return found


def literals(value: ast.expr, around: ast.AST, where: str) -> list[str]:
    """The texts that an expression can be: literals, one of two, or a local name for them."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return [value.value]
    if isinstance(value, ast.IfExp):
        return literals(value.body, around, where) + literals(value.orelse, around, where)
    assert isinstance(value, ast.Name), f"{where}: a template is a literal"
    given = []
    for node in ast.walk(around):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                given += [right for left, right in pairs if isinstance(left, ast.Name) and left.id == value.id]
    assert given, f"{where}: a template is a literal"
    return [text for each in given for text in literals(each, around, where)]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_templates_are_literals_and_nobody_else_makes_markup(module):
    for template in templates(module):
        assert not re.search(r"<script|<iframe|<form|<link|<object|style=|\bon\w+=", template), template
        assert not re.search(r"href=(?!['\"]#)", template), template
    text = module.read_text(encoding="utf-8")
    if module.stem != "markup":
        assert not re.search(r"\bMarkup\(", text)
        assert "cast(Markup" not in text
    if module.stem not in ("markup", "page"):
        assert not re.search(r"\bstyle\(", text)


def coordinates(chart: str) -> list[float]:
    """Every number that places something."""
    found = re.findall(r'\b(?:[xy][12]?|c[xy]|width|height|points)="([^"]*)"', chart)
    return [float(number) for text in found for number in re.split(r"[ ,]", text) if number]


@given(st.lists(NUMBERS, min_size=1, max_size=8), st.booleans())
@example([1e300, -1e300, 5e-324, None], False)
@example([5e-324, 1e-320, 1e-100], True)
@example([1e16, 1e16 + 2], False)
def test_any_numbers_are_drawn_inside_of_the_chart(values, logarithmic):
    points = tuple((float(place), value) for place, value in enumerate(values))
    chart = line_chart("t", [Series("s", points, 1)], logarithmic=logarithmic)
    assert all(-10 <= number <= WIDTH for number in coordinates(chart))


@given(st.floats(allow_nan=True), st.floats(allow_nan=False, allow_infinity=False))
def test_a_pixel_is_always_a_number_inside_of_the_frame(value, other):
    axes = Axes((0.0, other), (other, 1.0))
    assert 0 <= axes.x(value) <= WIDTH
    assert 0 <= axes.y(value) <= axes.height


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5))
@example([5e-324])
def test_histograms_of_shares_stay_inside(values):
    assert all(0 <= number <= WIDTH for number in coordinates(histogram_chart("t", [("a", values, 1)], unit="%")))


@given(st.floats(-1e100, 1e100).map(drawable), st.floats(-1e100, 1e100).map(drawable))
@example(0.0, 1e-100)
def test_ticks_of_any_range_are_few(low, high):
    assert 1 <= len(nice_ticks(low, high)) <= 25
