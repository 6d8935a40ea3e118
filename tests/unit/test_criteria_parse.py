"""Criteria as text: what is printed reads back, and every mistake is pointed at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.config.loss import Terms
from volumen.criteria import CriterionError, parse_criterion, print_criterion, quantity_of
from volumen.criteria.grammar import All, Amount, AnyOf, Comparison, Improves, NoChange, Not, OfParent, When, Within
from volumen.criteria.quantities import METRICS, QUANTITIES, SCORES, SYNONYMS, TERMS, UNITS
from volumen.metrics.table import METRICS as EVALUATED

NAMES = sorted({*QUANTITIES, *SYNONYMS})
EPOCHS = st.integers(1, 10**6)
NUMBERS = st.floats(0, 1e12, allow_nan=False)
RANGES = st.tuples(EPOCHS, EPOCHS).map(lambda pair: (min(pair), max(pair)))


def amounts(name: str, *, signed: bool = True) -> st.SearchStrategy[Amount]:
    """Numbers that a quantity can be compared with."""
    units = st.sampled_from(sorted(UNITS[quantity_of(name).dimension]))
    sign = st.sampled_from([1, -1] if signed else [1])
    return st.builds(lambda number, unit, sign: Amount(sign * number, unit), NUMBERS, units, sign)


WHENS = st.one_of(
    st.none(),
    st.builds(When, st.sampled_from(["by", "at", "from"]), EPOCHS),
    RANGES.map(lambda pair: When("in", *pair)),
    st.sampled_from([When("end"), When("best")]),
)


def statements_of(name: str) -> st.SearchStrategy[object]:
    """Every form of statement about a quantity."""
    bounds = st.one_of(amounts(name), st.builds(OfParent, st.one_of(st.none(), amounts(name))))
    pairs = st.tuples(amounts(name), amounts(name)).map(lambda pair: sorted(pair, key=lambda one: one.value))
    forms = [
        st.builds(Comparison, st.just(name), st.sampled_from(["<", "<=", ">", ">="]), bounds, WHENS),
        st.builds(lambda pair, when: Within(name, *pair, when), pairs, WHENS),
        st.builds(
            NoChange, st.just(name), st.sampled_from(["drop", "rise"]), st.sampled_from([">", ">="]),
            amounts(name, signed=False), st.one_of(st.none(), RANGES), st.one_of(st.none(), EPOCHS),
        ),
    ]  # fmt: skip
    if quantity_of(name).better:
        forms.append(st.builds(Improves, st.just(name), amounts(name, signed=False), EPOCHS))
    return st.one_of(forms)


def read(text: str) -> tuple[object, CriterionError | None]:
    """A criterion, or the error."""
    try:
        return parse_criterion(text), None
    except CriterionError as error:
        return None, error


def parts(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(inner, min_size=2, max_size=3).map(tuple)


CRITERIA = st.recursive(
    st.sampled_from(NAMES).flatmap(statements_of),
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(All, parts(inner)), st.builds(AnyOf, parts(inner))),
    max_leaves=8,
)


@given(CRITERIA)
def test_what_is_printed_reads_back_and_prints_the_same(criterion):
    text = print_criterion(criterion)
    if len(text) > 1000:
        return
    assert parse_criterion(text) == criterion
    assert print_criterion(parse_criterion(text)) == text


@given(CRITERIA, st.data())
def test_spaces_mean_nothing(criterion, data):
    text = print_criterion(criterion)
    wide = "".join(data.draw(st.sampled_from([" ", "  ", "\n", "\t "])) if each == " " else each for each in text)
    if len(wide) <= 1000:
        assert parse_criterion(f" {wide} ") == criterion


@given(CRITERIA, st.data())
def test_a_letter_without_meaning_is_pointed_at(criterion, data):
    words = print_criterion(criterion).split(" ")
    if len(" ".join(words)) > 900:
        return
    place = data.draw(st.integers(0, len(words)))
    before = " ".join(words[:place])
    letter = data.draw(st.sampled_from("=&|!,;@#?$≤'\"[{"))
    text = f"{before} {letter} {' '.join(words[place:])}"
    with pytest.raises(CriterionError) as caught:
        parse_criterion(text)
    assert caught.value.start == len(before) + 1


@given(CRITERIA, st.data())
def test_a_misspelt_quantity_is_pointed_at(criterion, data):
    text = print_criterion(criterion)
    names = [word for word in text.replace("(", " ").replace(")", " ").split() if quantity_of(word)]
    name = data.draw(st.sampled_from(names))
    wrong = text.replace(name, f"{name}x", 1) if text.count(name) == 1 else ""
    if not wrong or len(wrong) > 1000 or quantity_of(f"{name}x"):
        return
    with pytest.raises(CriterionError, match="there is no quantity") as caught:
        parse_criterion(wrong)
    assert caught.value.start == wrong.index(f"{name}x")


@given(st.lists(st.sampled_from(["val.loss", "<", ">", "0.4", "3", "..", "by", "epoch", "epochs", "in", "no", "drop",
    "(", ")", "and", "or", "not", "parent", "+", "-", "%", "s", "within", "at", "best", "the", "end", "over", "é", "=",
    "epoch_time", "improves", "\t"]), max_size=14))  # fmt: skip
def test_any_words_are_a_criterion_or_an_error_with_a_mark(words):
    text = " ".join(words)
    found, error = read(text)
    if error is None:
        assert parse_criterion(print_criterion(found)) == found
        return
    assert 0 <= error.start <= len(text)
    reason, line, mark = str(error).split("\n")
    assert len(line) - 4 == len(text)
    assert mark.strip("^ ") == ""
    assert mark.index("^") == error.start + 4
    assert reason
    assert error.in_one_line.isprintable()


@given(st.text(max_size=1200))
def test_any_text_is_a_criterion_or_an_error(text):
    with pytest.raises(CriterionError) as caught:
        parse_criterion("<" + text)
    assert 0 <= caught.value.start <= len(text) + 1


MISTAKES = """
val.los« » < 0.4 | did you mean val.loss
«dise» > 0.4 | did you mean
«val.term.focl» < 0.1 | val.term.focal
val.loss «=» 3 | write <= or >=
val.loss «≤» 3 | write <=
val.loss < 0.45 «bz» epoch 20 | by epoch N
val.loss < 0.45 «untill» epoch 20 | by epoch N
val.loss < «» | a number is expected
val.loss < «dice» | a number is expected
val.loss < 0.45 by «20» | 'epoch' and its number
val.loss < 0.45 by epoch «x» | whole number
val.loss < 0.45 by epoch «1.5» | whole number
val.loss < 0.45 by epoch «0» | counted from 1
val.loss < 0.45 in epochs 6..«3» | exchange them
val.loss < 0.45 in epochs 3«-»6 | '..' is expected
val.loss < 0.45 at the «start» | 'end' is expected
epoch_time < «400» | write 400 s or 400 min or 400 h
epoch_time < 30«%» | write s or min or h
memory < 3 «kg» | write GB or MB
val.loss < 3 «s» | write the number alone
val.loss < 30«%» | write the number alone
val.dice > 30 «GB» | write % or the number alone
val.dice within 0.7..«0.3» | exchange them
val.dice within 0.3 «0.7» | '..' is expected
val.dice «dropp» 0.3 | a comparison is expected
val.dice «drop» > 0.3 | write no before val.dice
no val.dice «fall» > 0.3 | 'drop' or 'rise' is expected
no val.dice drop «0.3» | '>' is expected
no val.dice drop > «-»0.3 | a number is expected
«surface_share» improves by 0.1 over 3 epochs | compare it with < or >
val.loss improves by 0.1 «» | 'over' is expected
(val.loss < 1«» | parenthesis at character 1
val.loss < 1«)» | never opened
val.loss < 1 «val.dice» > 2 | is not expected here
val.loss < 1 and «» | a quantity is expected
not «and» | a quantity is expected
val.loss < «1e300» | numbers up to
val.dice > parent + «+» 0.1 | a number is expected
"""


@pytest.mark.parametrize("line", MISTAKES.strip().splitlines())
def test_every_mistake_is_marked_and_mended(line):
    marked, _, right = line.partition(" | ")
    if "« »" in marked:  # the mark is the whole word
        marked = "«" + marked.replace("« »", "»")
    start = marked.index("«")
    text = marked.replace("«", "").replace("»", "")
    with pytest.raises(CriterionError) as caught:
        parse_criterion(text)
    assert caught.value.start == min(start, len(text.rstrip())), str(caught.value)
    assert right in caught.value.reason
    length = marked.index("»") - start - 1
    assert str(caught.value).split("\n")[2].count("^") == max(1, length)


def test_deep_nesting_is_an_error_and_no_recursion():
    with pytest.raises(CriterionError, match="inside each other"):
        parse_criterion("(" * 400 + "val.loss < 1" + ")" * 400)
    assert parse_criterion("(" * 20 + "val.loss < 1" + ")" * 20) == parse_criterion("val.loss < 1")


def test_the_mark_stands_below_wide_letters():
    with pytest.raises(CriterionError) as caught:
        parse_criterion("紙 < 1")
    assert str(caught.value).split("\n")[2] == "    ^^"


def test_the_names_are_those_of_metrics_and_terms():
    assert set(TERMS) == set(Terms.model_fields)
    assert set(EVALUATED) == set(SCORES)
    validated = {name for name, one in EVALUATED.items() if one.validated} | {"leaderboard_quick"}
    assert set(METRICS) == validated
    for name, one in EVALUATED.items():
        better = {True: "higher", False: "lower", None: None}[one.higher_is_better]
        assert quantity_of(f"score.{name}").better == better
