"""Laws of a forecast: times add up, what doubles doubles, what never starts says so."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from volumen.config.load import load_config
from volumen.doctor.cost.memory import MemoryTrial
from volumen.doctor.forecast import Course, Pace, forecast, full_decay_step
from volumen.doctor.forecast_batches import changes_of, conclusion, predicted_bytes, sizes_of, within
from volumen.doctor.forecast_run import pace_of
from volumen.doctor.forecast_spans import Span, exactly, span_of
from volumen.doctor.forecast_steps import Measured
from volumen.errors import UserError
from volumen.training.probe import is_due
from volumen.training.schedule import fitted_warmup

BASE = load_config("preset:default", ["data.dataset=somewhere"]).config
seconds = st.floats(0.001, 100.0)


@st.composite
def spans(draw) -> Span:
    low, middle, high = sorted(draw(st.tuples(seconds, seconds, seconds)))
    return Span(low, middle, high)


@st.composite
def courses(draw) -> Course:
    """A run of any length, batch, validations, phases, averages."""
    epochs, batch = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    starts = sorted(draw(st.sets(st.integers(0, 50), max_size=3)))
    phases = [
        {"name": draw(st.sampled_from("ab")), "start_epoch": start, "weights": {"soft_dice": 1}} for start in starts
    ]
    swa = draw(st.none() | st.builds(dict, start_epoch=st.integers(0, 50), update_every_epochs=st.integers(1, 4)))
    values = BASE.model_dump()
    values["data"] |= {"batch": batch}
    values["data"]["sampling"] |= {"patches_per_epoch": draw(st.integers(batch, 60))}
    values["loss"] |= {"curriculum": tuple(phases)}
    values["training"] |= {
        "epochs": epochs,
        "swa": swa,
        "validate_every_epochs": draw(st.integers(1, 9)),
        "monitoring": draw(st.none() | st.builds(dict, probe_every_steps=st.none() | st.integers(1, 30))),
        "early_stopping": draw(st.none() | st.builds(dict, patience=st.integers(1, 20))),
    }
    course = Course.configured(type(BASE).model_validate(values))
    return replace(course, steps=draw(st.integers(1, course.steps)))


def drawn_pace(draw, course: Course) -> Pace:
    steps = {name: draw(spans()) for name, _ in course.phases}
    parts = draw(st.tuples(*[st.floats(0, 9)] * 3))
    return Pace(steps, 1.0, 9, *parts, validation=draw(spans()), save=draw(spans()))


@given(st.data(), courses())
def test_times_add_up(data, course) -> None:
    pace = drawn_pace(data.draw, course)
    one, other = sorted(data.draw(st.tuples(*[st.integers(0, course.steps)] * 2)))
    parts = [course.seconds(pace, *ends) for ends in ((0, one), (one, other), (other, course.steps))]
    whole, total = course.seconds(pace, 0, course.steps), parts[0] + parts[1] + parts[2]
    for name in ("low", "middle", "high"):
        assert getattr(total, name) == pytest.approx(getattr(whole, name))
    assert whole.low <= whole.middle <= whole.high
    run = forecast(course, pace, one)
    assert run.total.middle == pytest.approx(sum(span.middle for span in run.phase_seconds.values()))


@given(courses())
def test_counts_are_what_the_training_loop_does(course) -> None:
    """Step by step, by the loop's own conditions."""
    config, per_epoch = course.config, course.per_epoch
    watched = config.training.monitoring
    validations = ended = probes = averaged = 0
    for step in range(course.steps):
        probes += is_due(step, None if watched is None else watched.probe_every_steps)
        last, epoch = step + 1 >= course.steps, step // per_epoch
        if not (last or (step + 1) % per_epoch == 0):
            continue
        ended += 1
        swa = config.training.swa
        averaged += (
            swa is not None and epoch >= swa.start_epoch and (epoch - swa.start_epoch) % swa.update_every_epochs == 0
        )
        validations += last or (epoch + 1) % config.training.validate_every_epochs == 0
        validations += last and averaged > 0
    found = course.counts(course.steps)
    assert (found.validations, found.ended, found.begun, found.probes) == (validations, ended, ended, probes)
    assert sum(found.steps.values()) == course.steps
    assert averaged == course.swa_updates


@given(st.data(), courses())
def test_twice_the_epochs_are_twice_what_scales(data, course) -> None:
    config = course.config
    assume(config.training.swa is None and len(course.phases) == 1 and config.training.monitoring is None)
    epochs = config.training.epochs * config.training.validate_every_epochs
    lengths = [
        Course.configured(config.model_copy(update={"training": config.training.model_copy(update={"epochs": many})}))
        for many in (epochs, 2 * epochs)
    ]
    assume(all(len(one.phases) == 1 for one in lengths))
    pace = replace(drawn_pace(data.draw, course), start=0.0)
    once, twice = (forecast(one, pace) for one in lengths)
    assert (twice.steps, twice.patches) == (2 * once.steps, 2 * once.patches)
    assert twice.total.middle == pytest.approx(2 * once.total.middle)
    assert twice.epoch_seconds == once.epoch_seconds


@given(st.data(), courses())
def test_milestones_come_in_order_and_what_lies_beyond_the_end_never_comes(data, course) -> None:
    run = forecast(course, drawn_pace(data.draw, course))
    placed = [one for one in run.milestones if one.step is not None]
    assert [one.step for one in placed] == sorted(one.step for one in placed)
    assert placed[-1].what == "end"
    assert placed[-1].seconds == run.total
    assert all(one.seconds is not None and one.seconds.middle <= run.total.middle * (1 + 1e-9) for one in placed)
    swa, names = course.config.training.swa, {one.what: one for one in run.milestones}
    if swa is not None:
        begins = names["equal average (SWA) begins"]
        assert (begins.step is None) == (course.swa_updates == 0)
        assert (begins.seconds is None) == any("SWA never starts" in note for note in run.notes)
    for phase in course.config.loss.curriculum:
        late = phase.start_epoch * course.per_epoch >= course.steps
        assert late == any(note.endswith(f"its start_epoch is {phase.start_epoch}") for note in run.notes)
    assert run.at_most == (course.config.training.early_stopping is not None)


@given(st.floats(0.01, 0.9999))
def test_a_moving_average_has_its_decay_from_that_update_on_and_no_earlier(decay) -> None:
    first = full_decay_step(decay)
    assert (1 + first) / (10 + first) >= decay * (1 - 1e-6)
    assert first == 1 or (1 + first - 1) / (10 + first - 1) < decay * (1 + 1e-6)


@given(st.data(), courses(), st.floats(0.01, 10.0))
def test_what_is_left_of_a_run_is_its_remaining_steps_at_its_own_speed(data, course, step) -> None:
    """Records as a run of constant speed leaves them, up to any epoch."""
    done = data.draw(st.integers(1, course.epochs))
    records = []
    for epoch in range(done):
        count = min(course.per_epoch, course.steps - epoch * course.per_epoch)
        at = min((epoch + 1) * course.per_epoch, course.steps)
        records.append({"kind": "train", "step": at, "epoch": epoch, "seconds": step * count})
        records.append({"kind": "validation", "step": at, "epoch": epoch, "seconds": 3.0})
    steps = records[-1]["step"]
    pace, notes = pace_of(course, records, 0.0, steps)
    run = forecast(course, pace, steps)
    validations = course.counts(course.steps).validations - course.counts(steps).validations
    assert run.total.middle == pytest.approx(step * (course.steps - steps) + 3.0 * validations)
    begun = sum(first < steps for _, first in course.phases)
    assert sum("has not begun" in note for note in notes) == len(course.phases) - begun


@given(st.data(), courses(), st.floats(0.1, 1.5))
def test_what_fits_into_a_budget_takes_no_longer_than_it(data, course, share) -> None:
    course = Course.configured(course.config)
    found = Measured(drawn_pace(data.draw, course), 1.0, 1.0, None)
    total = course.seconds(found.pace, 0, course.steps).middle
    least = found.pace.validation.middle
    if share * total <= least:
        with pytest.raises(UserError, match="give a larger --time-budget"):
            within(course, found, share * total)
        return
    assume(share * total > least + total / course.steps)  # a step and all that an epoch has besides
    less = within(course, found, share * total)
    assert 1 <= less.steps <= course.steps
    assert less.epochs == less.config.training.epochs
    if share > 1.1 and course.swa_updates == 0:
        assert less.steps == course.steps


@given(courses(), st.integers(2, 5), seconds, seconds)
def test_another_batch_is_compared_in_numbers_that_are_its_own(course, factor, one, other) -> None:
    config = course.config
    data = config.data.model_copy(update={"batch": config.data.batch * factor})
    assume(data.batch <= data.sampling.patches_per_epoch)
    larger = config.model_copy(update={"data": data})
    runs = []
    for settings, step in ((config, one), (larger, other)):
        whole = Course.configured(settings)
        runs.append(forecast(whole, Pace({name: exactly(step) for name, _ in whole.phases}, step, 9)))
    before, after = runs
    assert after.steps <= before.steps / factor + config.training.epochs
    assert after.patch_seconds / before.patch_seconds == pytest.approx(other / one / factor)
    said = conclusion(before, after)
    assert f"{after.steps / before.steps:.3g} x the updates" in said
    lines = list(changes_of(config, before, after))
    assert any("a hint" in line for line in lines)
    assert any("moving average" in line for line in lines)
    lost = data.sampling.patches_per_epoch % data.batch
    assert (lost > 0) == any("fill no batch" in line for line in lines)
    warmup = fitted_warmup(config.schedule, config.training.epochs)
    assert (warmup > 0) == any("warm-up" in line for line in lines)


@given(st.integers(1, 50), st.integers(0, 10**9), st.integers(0, 10**8))
def test_memory_is_predicted_on_a_line(batch, fixed, each) -> None:
    tried = [MemoryTrial(size, fits=True, peak_bytes=fixed + each * size + 1) for size in (1, 2, 4)]
    assert predicted_bytes(tried, batch) == pytest.approx(fixed + each * batch + 1, abs=1)
    assert predicted_bytes(tried[:1], batch) is None


@given(st.lists(seconds, min_size=1))
def test_the_mean_lies_within_the_span(values) -> None:
    span = span_of(values)
    assert span.low <= span.middle <= span.high
    assert span.middle == pytest.approx(sum(values) / len(values))


def test_sizes_hold_the_run_s_own_and_fit_into_an_epoch() -> None:
    own, most = BASE.data.batch, BASE.data.sampling.patches_per_epoch
    assert sizes_of(BASE, []) == (own, 2 * own)
    assert sizes_of(BASE, [8, 1]) == tuple(sorted({1, own, 8}))
    for wrong in (0, most + 1):
        with pytest.raises(UserError, match="an epoch would have no step"):
            sizes_of(BASE, [wrong])
