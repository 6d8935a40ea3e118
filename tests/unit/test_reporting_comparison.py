"""One model of tables: the same numbers in text, page, JSON, CSV and LaTeX, whatever names runs have."""

import csv
import io
import json
import re
from html import unescape

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compared_scores import comparison, drawn

from volumen.experiments.comparing_rankings import AT_MATCHED, OWN
from volumen.reporting.comparison_formats import (
    comparison_csv,
    comparison_json,
    comparison_latex,
    latex_text,
    print_comparison,
)
from volumen.reporting.comparison_page import comparison_page
from volumen.reporting.comparison_tables import tables_of
from volumen.reporting.console import PlainConsole
from volumen.system.names import printable

HOSTILE = "=1+1<script>&\"'\\end{table}%$#_^~{}\x1b[31m中"


@pytest.fixture(scope="module")
def found():
    rows, _ = drawn(np.random.default_rng(3), rows=3, cases=5, seeds=2, shift=0.2)
    return comparison(rows, gains={"r1": 0.4}, prefix=HOSTILE)


def text_of(found, width: int) -> str:
    stream = io.StringIO()
    print_comparison(found, PlainConsole(file=stream, width=width, no_color=True))
    return stream.getvalue()


def test_the_same_numbers_stand_in_every_format(found):
    tables = tables_of(found)
    assert {"configurations", "terms", "distribution", "cost", "cases", f"ranking {OWN}"} <= {one.key for one in tables}
    text, page, latex = text_of(found, 400), unescape(comparison_page(found)), comparison_latex(found)
    plain = json.loads(json.dumps(comparison_json(found)))
    rows = list(csv.DictReader(io.StringIO(comparison_csv(found))))
    lines = iter(rows)
    for table, record in zip(tables, plain["tables"], strict=True):
        for line, kept in zip(table.lines, record["lines"], strict=True):
            assert list(kept["cells"]) == list(table.headings[1:])
            for cell, own in zip(line.cells, kept["cells"].values(), strict=True):
                assert (own["text"], own["value"], own["half"]) == (cell.text, cell.value, cell.half)
                row = next(lines)
                assert row["text"].removeprefix("'") == printable(cell.text)
                assert (float(row["value"]) if row["value"] else None) == cell.value
                assert printable(cell.text) in page
                if not table.long:
                    assert latex_text(cell.text) in latex
                    assert cell.value is None or cell.text in text
    for ranking in found.rankings:
        assert printable(ranking.verdict) in text
        assert printable(ranking.verdict) in page
        assert latex_text(ranking.verdict) in latex
        assert ranking.verdict in {one["verdict"] for one in plain["rankings"]}


def test_names_run_nothing(found):
    page, table = comparison_page(found), comparison_csv(found)
    assert "<script" not in page
    assert "\x1b" not in page + table + text_of(found, 100) + comparison_latex(found)
    for row in csv.reader(io.StringIO(table)):
        assert not any(cell.startswith(("=", "@")) for cell in row[:4])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(width):
    rows, _ = drawn(np.random.default_rng(4), rows=5, cases=4, seeds=1)
    drawn_lines = [line for line in text_of(comparison(rows), width).splitlines() if "─" in line]
    assert drawn_lines
    assert max(map(len, drawn_lines)) <= width


@given(st.text(max_size=60))
def test_latex_sets_every_letter_as_itself(text):
    found = latex_text(text)
    bare = re.sub(r"\\[{}$&#%_]|\\text[a-z]+\{\}|\$\\pm\$|\{[][*-]\}", "", found)
    assert not set(bare) & set("\\{}$&#%_~^<>|\"`'*[]-\n")
    groups = re.sub(r"\\[{}]", "", found)
    assert groups.count("{") == groups.count("}")
    assert all(letter.isascii() or "À" <= letter <= "ÿ" for letter in found)


@given(st.text("abc \\{}$&#%_~^<>|\"±[]-`'*", max_size=40))
def test_latex_can_be_read_back(text):
    back = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
            "textbar": "|", "textquotedbl": '"', "textasciigrave": "`", "textquotesingle": "'"}  # fmt: skip

    def read(found: re.Match[str]) -> str:
        return back[found[1]] if found[1] else "±" if found[2] else found[3] or found[4]

    pattern = r"\\(text[a-z]+)\{\}|(\$\\pm\$)|\\([{}$&#%_])|\{([][*-])\}"
    assert re.sub(pattern, read, latex_text(text)) == text


def test_the_page_has_a_chart_for_each_ranking_and_one_of_shares(found):
    page = comparison_page(found)
    assert page.count("<svg") == 5
    assert page.count('class="ring"') == len(found.scored)
    assert [one.point for one in found.rankings] == [OWN, AT_MATCHED]
