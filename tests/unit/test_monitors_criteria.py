"""A training held against its criteria: what is read from its records, and what it tells while it goes on."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from volumen.config.experiment import Experiment
from volumen.criteria import State, judge, parse_criterion
from volumen.monitors.criteria import CriteriaWatch, parent_records, reach_of, records_of, watch_criteria
from volumen.monitors.history import OURS
from volumen.monitors.seen import EpochSeen, EventSeen, RunFacts, Seen, ValidationSeen
from volumen.runs.scales import NO_SCALES, ProgressScales, Scale

FACTS = RunFacts(selection_metric="dice", planned_epochs=20)


def seen_of(dice: list[float], losses: list[float] | None = None) -> list[Seen]:
    """A training that validates each epoch."""
    records: list[Seen] = []
    for epoch, value in enumerate(dice):
        loss = losses[epoch] if losses else 1 - value
        records.append(
            EpochSeen(
                epoch, epoch, total=loss - 0.1, terms={"focal": 0.3}, progress={"total": 0.5}, rate=0.1, seconds=10.0,
                memory_gb=2.0,
            )
        )  # fmt: skip
        records.append(EventSeen(epoch, epoch, "warning"))
        records.append(
            ValidationSeen(
                epoch, epoch, total=loss, terms={"focal": 0.4}, progress={"total": 0.6}, metrics={"dice": value},
                predicted_share=0.2, true_share=0.1, seconds=5.0,
            )
        )  # fmt: skip
    return records


def test_every_quantity_is_where_people_look_for_it():
    records = records_of(seen_of([0.1, 0.5, 0.3]), FACTS, ended=True, scores={"leaderboard": 0.6, "dice": 0.4})
    assert (records.epochs, records.best, records.planned) == (3, 2, 20)
    last = {
        "val.dice": 0.3, "val.loss": 0.7, "train.loss": 0.6, "gap": 0.1, "term.focal": 0.4, "train.term.focal": 0.3,
        "r": 0.6, "train.r": 0.5, "epoch_time": 15.0, "memory": 2.0, "learning_rate": 0.1, "surface_share": 0.2,
        "true_share": 0.1,
    }  # fmt: skip
    for name, value in last.items():
        assert math.isclose(records.of(name)[3], value), name
    assert list(records.of("score").values()) == [0.6]
    assert list(records.of("score.dice").values()) == [0.4]


VALUES = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=12)
TEXTS = ("val.dice > 0.5 by epoch 6", "no val.dice drop > 0.2", "val.dice > 0.5 and epoch_time < 1 min", "score > 0.5")


def told(watch: CriteriaWatch, records: list[Seen]) -> list[tuple[int, str, str]]:
    """What is told after each validation: epoch, criterion, state."""
    found = []
    for record in records:
        watch.see(record)
        if isinstance(record, ValidationSeen):
            found += [(record.epoch, event["criterion"], str(event["state"])) for event in watch.changes()]
    return found


@given(VALUES)
def test_only_changes_are_told_and_the_last_told_is_how_it_stands(values):
    watch, records = CriteriaWatch(TEXTS, FACTS), seen_of(values)
    events = told(watch, records)
    now = records_of(records, FACTS, ended=False)
    for text in TEXTS:
        states = ["not yet", *(state for _, one, state in events if one == text)]
        assert all(one != other for one, other in pairwise(states))
        assert states[-1] == judge(parse_criterion(text), now).state
    final = watch.last_word()
    assert [event["criterion"] for event in final] == list(TEXTS)
    assert all(event["final"] and event["kind"] in OURS for event in final)


@given(VALUES, st.integers(0, 12))
def test_a_run_that_is_gone_on_with_tells_what_an_undisturbed_one_tells(values, cut):
    records = seen_of(values)
    before, after = records[: 3 * cut], records[3 * cut :]
    whole = told(CriteriaWatch(TEXTS, FACTS), records)
    resumed = told(watch_criteria(Experiment(criteria=TEXTS), FACTS, NO_SCALES, before), after)
    assert resumed == [event for event in whole if event[0] >= cut]


def test_without_criteria_nothing_is_kept_or_told():
    watch = watch_criteria(Experiment(), FACTS, NO_SCALES, seen_of([0.5]))
    assert told(watch, seen_of([0.1, 0.9])) == []
    assert watch.last_word() == []


def test_what_the_audit_measured_is_what_can_be_reached():
    def scale(floor: float) -> dict[str, dict[str, Scale]]:
        return {"validation": {"total": Scale(floor, 1.0), "variance": Scale(0.5625, 1.0)}, "train": {}}

    reach = reach_of(ProgressScales({"start": scale(0.3), "later": scale(0.2)}))
    assert reach == {"val.loss": (0.2, math.inf), "val.term.variance": (0.5625, math.inf)}
    watch = CriteriaWatch(("val.loss < 0.1 by epoch 20", "val.loss < 0.25 by epoch 20"), FACTS, reach)
    assert told(watch, seen_of([0.1])) == [(0, "val.loss < 0.1 by epoch 20", "unreachable")]


def test_a_parent_that_is_no_run_folder_is_none():
    for name in ("", "nowhere", "x" * 5000, "a\0b"):
        assert parent_records(Experiment(parent=name)) is None


def test_a_parents_own_records_are_compared_with():
    parent = records_of(seen_of([0.3, 0.4]), FACTS, ended=True)
    records = records_of(seen_of([0.5, 0.6]), FACTS, ended=True, parent=parent)
    assert judge(parse_criterion("val.dice > parent + 0.15"), records).state is State.met
    assert judge(parse_criterion("val.dice > parent + 0.25"), records).state is State.failed
