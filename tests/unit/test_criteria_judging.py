"""Verdicts: a table of criteria and records, and what holds for all of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.criteria import Records, State, Verdict, judge, parse_criterion
from volumen.criteria.verdicts import joined_by_and, joined_by_or, opposite


def run(ended: bool = True, noise: float | None = 0.0, **more) -> Records:
    """A run of twelve planned epochs; a validation loss that falls, degrades in epochs 4 to 6 and recovers."""
    loss = [0.60, 0.50, 0.45, 0.48, 0.49, 0.47, 0.44, 0.43, 0.42, 0.41]
    dice = [0.10, 0.30, 0.50, 0.48, 0.47, 0.49, 0.55, 0.58, 0.60, 0.62]
    share = [0.95, 0.80, 0.60, 0.62, 0.61, 0.60, 0.55, 0.50, 0.50, 0.52]
    seconds = [900.0, 390.0, 391.0, 389.0, 390.0, 392.0, 388.0, 390.0, 391.0, 389.0]
    series = {"val.loss": loss, "val.dice": dice, "val.predicted_share": share, "epoch_time": seconds}
    series |= {"memory": [2.0] * 9 + [3.0], "learning_rate": [0.1] * 10, "val.term.variance": [0.9] * 10}
    series["train.loss"] = [0.5] * 10
    numbered = {name: dict(enumerate(values, 1)) for name, values in series.items()}
    known = {} if noise is None else dict.fromkeys(series, noise)
    given = {"series": numbered, "epochs": 10, "ended": ended, "planned": 12, "best": 10, "noise": known}
    return Records(**(given | more))


def cut(records: Records, epochs: int) -> Records:
    """The same run when it was younger."""
    series = {name: {epoch: value for epoch, value in one.items() if epoch <= epochs}
              for name, one in records.series.items()}  # fmt: skip
    return Records(series, epochs, False, records.planned, min(epochs, records.best or epochs), records.noise,
                   records.reach, records.parent)  # fmt: skip


WHOLE = run()
RUNNING = run(ended=False)
BETTER_PARENT = Records({"val.dice": {5: 0.58}, "val.loss": {5: 0.43}}, epochs=5, ended=True, best=5,
                        noise={"val.dice": 0.0, "val.loss": 0.0})  # fmt: skip
TABLE = [
    # by epoch: once is enough
    ("val.loss < 0.45 by epoch 20", WHOLE, "met", 7),
    ("val.loss < 0.45 by epoch 3", WHOLE, "failed", 3),
    ("val.loss <= 0.45 by epoch 3", WHOLE, "met", 3),
    ("val.loss < 0.45 by epoch 12", cut(WHOLE, 5), "not yet", 3),
    ("val.loss < 0.45 by epoch 12", cut(WHOLE, 7), "met", 7),
    ("val.loss < 0.40 by epoch 12", WHOLE, "failed", 10),
    ("val.loss < 0.445 by epoch 7", run(noise=0.01), "undecidable", 7),
    ("val.loss < 0.445 by epoch 10", run(noise=0.01), "met", 9),
    ("val.loss < 0.45 by epoch 12", run(ended=False, noise=None), "not yet", 10),
    ("val.loss < 0.45 by epoch 12", run(noise=None), "met", 7),
    # a change from the best before
    ("no val.dice drop > 0.01 in epochs 3..6", WHOLE, "failed", 4),
    ("no val.dice drop > 0.05 in epochs 3..6", WHOLE, "met", 5),
    ("no val.dice drop > 0.05 in epochs 3..6", cut(WHOLE, 5), "not yet", 5),
    ("no val.dice drop > 0.05 in epochs 3..6", cut(WHOLE, 6), "met", 5),
    ("no val.dice drop > 0.01 in epochs 3..6", cut(WHOLE, 4), "failed", 4),
    ("no val.dice drop > 0.01 in epochs 3..6", run(noise=0.01), "undecidable", 5),
    ("no val.loss rise > 0.05", WHOLE, "met", 5),
    ("no val.loss rise > 0.05", RUNNING, "not yet", 5),
    ("no val.loss rise > 0.015 over 1 epochs", WHOLE, "failed", 4),
    ("no val.loss rise >= 0.02 in epochs 5..6 over 1 epochs", WHOLE, "met", 5),
    ("no val.loss rise > 0.05 in epochs 8..40", WHOLE, "undecidable", 8),
    # ranges, shares and percent
    ("surface_share within 0.30..0.70", WHOLE, "met", 10),
    ("surface_share within 30%..70% in epochs 1..4", WHOLE, "failed", 1),
    ("surface_share within 55%..65%", WHOLE, "failed", 10),
    ("surface_share within 30%..70% from epoch 3", WHOLE, "met", 4),
    ("surface_share within 30%..70% from epoch 3", RUNNING, "not yet", 4),
    ("surface_share within 30%..70% from epoch 2", RUNNING, "failed", 2),
    # costs
    ("epoch_time < 400 s", WHOLE, "met", None),
    ("epoch_time < 6 min", WHOLE, "failed", None),
    ("epoch_time < 400 s in epochs 1..3", WHOLE, "failed", 1),
    ("epoch_time < 400 s", RUNNING, "not yet", None),
    ("memory < 2.5 GB", RUNNING, "failed", 10),
    ("memory < 4 GB", WHOLE, "met", 10),
    ("learning_rate > 0.01 at the end", WHOLE, "met", 10),
    # single moments
    ("val.dice > 0.55 at epoch 8", RUNNING, "met", 8),
    ("val.dice > 0.60 at epoch 8", RUNNING, "failed", 8),
    ("val.dice > 0.60 at epoch 11", RUNNING, "not yet", 10),
    ("val.dice > 0.60 at epoch 11", WHOLE, "failed", None),
    ("val.dice > 0.6 at best", WHOLE, "met", 10),
    ("val.dice > 0.6", RUNNING, "not yet", 10),
    ("gap < 0.1", WHOLE, "undecidable", None),
    # what nothing can reach
    ("term.variance < 0.2 by epoch 10", run(reach={"val.term.variance": (0.5625, math.inf)}), "unreachable", None),
    ("term.variance < 0.2 by epoch 10", run(ended=False), "failed", 1),
    ("val.dice > 1.2", WHOLE, "unreachable", None),
    ("val.dice >= 110% by epoch 12", RUNNING, "unreachable", None),
    ("val.loss < 0.4 at epoch 60", RUNNING, "unreachable", None),
    ("val.loss < 0.45 by epoch 12", run(reach={"val.loss": (0.44, math.inf)}), "met", 7),
    # parents
    ("val.dice > parent + 0.02", run(parent=BETTER_PARENT), "met", 10),
    ("val.dice > parent + 0.05", run(parent=BETTER_PARENT), "failed", 10),
    ("val.loss < parent - 0.01 by epoch 12", run(parent=BETTER_PARENT), "met", 10),
    ("val.dice > parent", WHOLE, "undecidable", None),
    # improvement
    ("val.loss improves by 0.01 over 3 epochs", WHOLE, "met", 10),
    ("val.loss improves by 0.1 over 3 epochs", WHOLE, "failed", 10),
    ("val.loss improves by 0.01 over 3 epochs", RUNNING, "not yet", 10),
    ("val.loss improves by 0.01 over 30 epochs", WHOLE, "undecidable", None),
    # what an evaluation says
    ("score > 0.5", WHOLE, "not yet", None),
    ("score > 0.5", run(series={"score": {10: 0.6}}), "met", None),
    ("score.surface_dice > 0.7", run(series={"score.surface_dice": {10: 0.6}}), "failed", None),
    # joined
    ("val.dice > 0.6 and epoch_time < 400 s", WHOLE, "met", 10),
    ("val.dice > 0.6 and epoch_time < 1 s", WHOLE, "failed", None),
    ("val.dice > 0.7 or epoch_time < 400 s", WHOLE, "met", None),
    ("not val.dice > 0.7", WHOLE, "met", 10),
    ("not (val.dice > 0.6 and val.loss < 0.5)", WHOLE, "failed", 10),
    ("val.dice > 1.2 or val.dice > 1.3", WHOLE, "unreachable", None),
    ("not val.dice > 1.2", RUNNING, "met", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "records", "state", "epoch"), TABLE, ids=range(len(TABLE)))
def test_verdicts(text, records, state, epoch):
    found = judge(parse_criterion(text), records)
    assert (str(found.state), found.sentence != "") == (state, True), found
    if epoch is not None:
        assert found.epoch == epoch, found


def test_there_are_more_than_thirty_examples_of_every_verdict():
    assert len(TABLE) > 30
    assert {state for _, _, state, _ in TABLE} == {str(state) for state in State}


def test_a_value_that_was_not_finite_meets_nothing():
    records = run(series={"val.loss": {1: 0.5, 2: math.nan}}, epochs=2, best=2)
    for text in ("val.loss < 1 at the end", "val.loss < 1 from epoch 1", "no val.loss rise > 5"):
        found = judge(parse_criterion(text), records)
        assert (found.state, found.epoch) == (State.failed, 2), text


STATES = st.sampled_from(list(State))
VERDICTS = st.lists(st.builds(Verdict, STATES, st.just("because")), min_size=1, max_size=4)
DECISIVE = {State.unreachable: State.failed}


def _coarse(verdict: Verdict) -> State:
    return DECISIVE.get(verdict.state, verdict.state)


@given(VERDICTS)
def test_de_morgan(parts):
    assert _coarse(opposite(joined_by_and(parts))) == _coarse(joined_by_or([opposite(part) for part in parts]))
    assert _coarse(opposite(joined_by_or(parts))) == _coarse(joined_by_and([opposite(part) for part in parts]))


@given(VERDICTS)
def test_the_order_of_parts_means_nothing(parts):
    for join in (joined_by_and, joined_by_or):
        assert join(parts).state == join(parts[::-1]).state


VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
BOUNDS = st.integers(0, 100).map(lambda number: number / 100)
NOISES = st.floats(0, 0.2)


@given(
    VALUES, BOUNDS, NOISES, st.integers(1, 12), st.sampled_from(["by epoch {n}", "in epochs 1..{n}", "from epoch {n}"])
)
def test_what_a_run_has_settled_it_does_not_take_back(values, bound, noise, number, when):
    criterion = parse_criterion(f"val.dice > {bound} {when.format(n=number)}")
    settled = None
    for done in range(1, len(values) + 1):
        series = {"val.dice": dict(enumerate(values[:done], 1))}
        for ended in (False, True) if done == len(values) else (False,):
            found = judge(criterion, Records(series, done, ended, 12, done, {"val.dice": noise})).state
            if settled is not None:
                assert found == settled
            if found in (State.met, State.failed):
                settled = found


@given(VALUES, BOUNDS)
def test_less_is_not_at_least(values, bound):
    records = Records({"val.dice": dict(enumerate(values, 1))}, len(values), True, noise={"val.dice": 0.0})
    less, least = (judge(parse_criterion(f"val.dice {sign} {bound} at the end"), records) for sign in ("<", ">="))
    assert _coarse(less) == _coarse(opposite(least))


@given(VALUES, BOUNDS, NOISES)
def test_percent_is_a_hundredth(values, bound, noise):
    records = Records({"val.dice": dict(enumerate(values, 1))}, len(values), True, noise={"val.dice": noise})
    share, percent = (judge(parse_criterion(f"val.dice > {one}"), records) for one in (bound, f"{100 * bound:g}%"))
    assert share.state == percent.state


@given(VALUES, BOUNDS, NOISES)
def test_noise_opens_a_verdict_and_never_turns_it(values, bound, noise):
    plain, noisy = (
        judge(
            parse_criterion(f"val.loss < {bound} at the end"),
            Records({"val.loss": dict(enumerate(values, 1))}, len(values), True, noise={"val.loss": one}),
        )
        for one in (0.0, noise)
    )
    assert noisy.state in (plain.state, State.undecidable)
    margin = abs(values[-1] - bound)
    if noise > 0:
        assert (noisy.state is State.undecidable) == (margin <= 2 * noise)


@given(VALUES, st.permutations(range(1, 13)))
def test_the_order_in_which_records_are_kept_means_nothing(values, order):
    series = dict(enumerate(values, 1))
    mixed = {epoch: series[epoch] for epoch in order if epoch in series}
    for text in ("no val.dice drop > 0.1", "val.dice > 0.5 by epoch 4", "val.dice > 0.5 at the end"):
        runs = [Records({"val.dice": each}, len(values), True, noise={"val.dice": 0.01}) for each in (series, mixed)]
        assert judge(parse_criterion(text), runs[0]) == judge(parse_criterion(text), runs[1])
