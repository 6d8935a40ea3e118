"""Experiments as files: what is written reads back, edits keep what people wrote, mistakes have lines."""

import datetime
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from volumen.cli.experiment import outcomes_of
from volumen.cli.main import run as volumen
from volumen.config.experiment import ExpectedOutcome
from volumen.errors import UserError
from volumen.ledger.entry import Entry, Note, place_of, read_entry, read_ledger
from volumen.ledger.writing import append, edit, put, write_new

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)
CRITERIA = st.sampled_from(["val.loss < 0.45 by epoch 20", "no val.dice drop > 1% in epochs 3..6", "not score > 0.6"])
OUTCOMES = st.lists(
    st.builds(
        ExpectedOutcome, what=TEXTS, probability=st.one_of(st.none(), st.integers(0, 25).map(lambda one: one / 100)),
        criterion=st.one_of(st.none(), CRITERIA),
    ),
    max_size=4,
).map(tuple)  # fmt: skip
NOTES = st.lists(st.builds(Note, date=st.dates().map(datetime.date.isoformat), text=TEXTS), max_size=3).map(tuple)


@st.composite
def entries(draw) -> Entry:
    outcomes, closed = draw(OUTCOMES), draw(st.booleans())
    came_true = draw(st.one_of(st.none(), st.integers(0, len(outcomes)))) if closed else None
    return Entry(
        name="one",
        hypothesis=draw(TEXTS),
        config=draw(st.one_of(st.none(), TEXTS)),
        runs=tuple(draw(st.lists(TEXTS, max_size=2))),
        criteria=tuple(draw(st.lists(CRITERIA, max_size=3))),
        outcomes=outcomes,
        fallback=tuple(draw(st.lists(TEXTS, max_size=2))),
        notes=draw(NOTES),
        status="closed" if closed else "open",
        came_true=came_true,
        conclusion=draw(st.text("abc :#'\"{[-", max_size=20)),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(entries())
def test_what_is_written_reads_back(tmp_path, entry):
    path = write_new(tmp_path, entry)
    try:
        assert read_entry(path) == entry
        noted = edit(path, lambda document: append(document, "notes", {"date": "2026-01-25", "text": "seen"}))
        assert noted == read_entry(path) == entry.model_copy(update={"notes": (*entry.notes, noted.notes[-1])})
        assert noted.notes[-1].text == "seen"
    finally:
        path.unlink()


def test_keys_stand_in_one_order_whatever_is_edited(tmp_path):
    path = write_new(tmp_path, Entry(name="one", hypothesis="It learns.", fallback=("look",)))
    edit(path, lambda document: put(document, "conclusion", "It did."))
    edit(path, lambda document: put(document, "status", "closed"))
    edit(path, lambda document: put(document, "criteria", ["val.loss < 1"]))
    keys = [line.split(":")[0] for line in path.read_text().splitlines() if line[0].isalpha()]
    assert keys == [key for key in Entry.model_fields if key in keys]
    assert {"criteria", "conclusion", "fallback"} <= set(keys)


def test_an_edit_changes_its_own_lines_only(tmp_path):
    path = tmp_path / "one.yaml"
    before = [
        "# why we do this", "name: one", 'hypothesis: "it learns"  # I think', "", "criteria:",
        "  # the plan's own", "  - val.loss < 0.45 by epoch 20  # counted from 1", "  - 'val.dice > 0.5'",
        "status: open",
    ]  # fmt: skip
    path.write_text("\n".join(before) + "\n")
    edit(path, lambda document: append(document, "notes", {"date": "2026-01-25", "text": "seen"}))
    after = path.read_text().splitlines()
    assert [line for line in after if line in before] == before
    assert [line for line in after if line not in before] == ["notes:", "  - date: '2026-01-25'", "    text: seen"]


BROKEN = [
    ("name: one\nhypothesis: x\ncriteria:\n  - val.loss < 1\n  - val.los < 1\n", "one.yaml:5", "did you mean val.loss"),
    ("name: one\nhypothesis: x\nparnt: two\n", "one.yaml:3", "did you mean parent"),
    ("name: one\nhypothesis: x\nstatus: opened\n", "one.yaml:3", "open"),
    ("name: one\nhypothesis: x\nnotes:\n  - date: 25 January\n    text: a\n", "one.yaml:4", "isoformat"),
    ("name: one\nhypothesis: x\nparent: ../two\n", "one.yaml:3", "is a path"),
    ("name: one\nhypothesis: x\noutcomes: [{what: a, probability: 0.7}, {what: b, probability: 0.7}]\n", "one.yaml",
     "add up to 1.4"),
    ("name: one\nhypothesis: x\ncame_true: 1\n", "one.yaml", "outcomes"),
    ("name: two\nhypothesis: x\n", "one.yaml", "called as its file"),
    ("name: one\n", "one.yaml", "hypothesis"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "place", "fix"), BROKEN, ids=range(len(BROKEN)))
def test_a_mistake_has_a_file_a_line_and_a_fix(tmp_path, text, place, fix):
    path = tmp_path / "one.yaml"
    path.write_text(text)
    for use in (lambda: read_entry(path), lambda: edit(path, lambda document: None), lambda: read_ledger(tmp_path)):
        with pytest.raises(UserError) as caught:
            use()
        assert place in str(caught.value)
        assert fix in str(caught.value)
    assert path.read_text() == text


def test_a_change_that_makes_a_mistake_leaves_the_file(tmp_path):
    path = write_new(tmp_path, Entry(name="one", hypothesis="x"))
    before = path.read_text()
    with pytest.raises(UserError, match="did you mean"):
        edit(path, lambda document: put(document, "criteria", ["val.los < 1"]))
    assert path.read_text() == before
    with pytest.raises(UserError, match="exists already"):
        write_new(tmp_path, Entry(name="one", hypothesis="y"))
    assert path.read_text() == before


@given(st.permutations(["a", "b", "c", "d", "e"]), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_parents_come_before_children_and_circles_are_refused(tmp_path, names, data):
    for path in tmp_path.glob("*.yaml"):
        path.unlink()
    parents = {name: data.draw(st.sampled_from([None, *names[:place]])) for place, name in enumerate(names)}
    for name, parent in parents.items():
        write_new(tmp_path, Entry(name=name, hypothesis="x", parent=parent))
    order = list(read_ledger(tmp_path))
    assert sorted(order) == sorted(names)
    assert all(parent is None or order.index(parent) < order.index(name) for name, parent in parents.items())
    first = names[0]
    edit(tmp_path / f"{first}.yaml", lambda document: put(document, "parent", names[-1]))
    descends, one = False, names[-1]
    while one is not None and not descends:
        one = parents[one]
        descends = one == first
    if descends:
        with pytest.raises(UserError, match="circle"):
            read_ledger(tmp_path)


def test_names_that_leave_the_folder_are_refused(tmp_path):
    for name in ("../x", "a/b", ".hidden", "", "con"):
        with pytest.raises(UserError):
            place_of(tmp_path, name)
        assert volumen(["experiment", "new", name, "--ledger", str(tmp_path / "l"), "--hypothesis", "x"]) == 2
    assert not (tmp_path / "l").exists() or not os.listdir(tmp_path / "l")


@given(st.text("abc: %.5", min_size=1, max_size=15).map(str.strip).filter(bool), st.integers(0, 100))
def test_outcomes_as_they_are_given(what, percent):
    for text in (f"{what}: {percent}%", f"{what}:{percent / 100}"):
        (one,) = outcomes_of([text])
        assert (one.what, one.probability) == (what, percent / 100)
    (one,) = outcomes_of([f"{what}: {percent} % if val.loss <  0.4"])
    assert (one.what, one.criterion) == (what, "val.loss <  0.4")


def test_outcomes_that_cannot_be():
    for texts, fix in (
        (["a: 60%", "b: 50%"], "add up to 1.1"), (["a: 60"], "write 60% or 0.6"), (["a: 6% if x < 1"], "no quantity"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=fix):
            outcomes_of(texts)
