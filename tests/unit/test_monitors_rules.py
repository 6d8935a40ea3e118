"""Each monitor fires on what it is for and keeps quiet beside it, and none fires on drawn healthy runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.monitors.seen import EpochSeen, EventSeen, History, ProbeSeen, RunFacts, Seen, StepsSeen, ValidationSeen
from volumen.monitors.watching import MONITORS, MOST_ROWS, Monitors, replay, replayed, thinned

EPOCHS, STEPS = 20, 15
SETTING = RunFacts(
    selection_metric="dice", planned_epochs=EPOCHS, batch=2, weights={"soft_dice": 1.0, "cross_entropy": 1.0},
    base_rate=0.01, gradient_clip=12.0, scale=(0.0, 1.2),
)  # fmt: skip


def course(start, end, noise, random, count=EPOCHS):
    """From start towards end, quickly at first, with noise."""
    way = 1 - np.exp(-np.linspace(0, 3, count))
    return start + (end - start) * way + noise * random.standard_normal(count)


def a_run(seed=0, *, best=0.7, lowest=0.3, noise=0.005, epochs=EPOCHS, true=0.15) -> list[Seen]:
    """A healthy run's records; what a test wants otherwise is replaced in them."""
    random = np.random.default_rng(seed)
    metric, trained = course(0.05, best, noise, random, epochs), course(0.98, lowest, noise, random, epochs)
    held_out = trained + 0.05
    records: list[Seen] = []
    for epoch in range(epochs):
        at = {"epoch": epoch, "step": (epoch + 1) * STEPS}
        total = 1.2 * trained[epoch]
        steps = total + 0.02 * random.standard_normal(STEPS)
        norms = np.exp(0.2 * random.standard_normal(STEPS))
        if epoch % 3 == 0:
            records.append(a_probe(epoch, gap=0.6 * (1 - trained[epoch]), seed=seed + epoch))
        records.append(StepsSeen(**at, totals=tuple(steps), gradient_norms=tuple(norms)))
        records.append(
            EpochSeen(
                **at, total=total, terms={"soft_dice": total / 2, "cross_entropy": total / 2},
                weighted={"soft_dice": total / 2, "cross_entropy": total / 2},
                progress={"total": trained[epoch], "soft_dice": trained[epoch], "cross_entropy": trained[epoch]},
                rate=0.01 * (1 - epoch / epochs) ** 0.9, gradient_norm=1.0, clipped_share=0.02,
                predicted_share=true, true_share=true, seconds=10.0, loader_seconds=0.5,
            )
        )  # fmt: skip
        cases = {
            name: {"dice": metric[epoch] + delta, "predicted_share": true + delta, "true_share": true + 0.9 * delta}
            for name, delta in (("a", 0.01), ("b", -0.01), ("c", 0.02))
        }
        records.append(
            ValidationSeen(
                **at, total=1.2 * held_out[epoch], progress={"total": held_out[epoch]}, cases=cases,
                metrics={"dice": metric[epoch]}, predicted_share=true * (0.8 + 0.2 * epoch / epochs), true_share=true,
            )
        )  # fmt: skip
    return records


def a_probe(epoch, *, gap=0.3, seed=0, **changes) -> ProbeSeen:
    random = np.random.default_rng(seed)
    names = [f"layer{number}.weight" for number in range(6)]
    healthy = ProbeSeen(
        epoch=epoch, step=epoch * STEPS + 8,
        update_ratio={name: float(1e-3 * np.exp(0.3 * random.standard_normal())) for name in names},
        gradient={name: float(0.1 * np.exp(0.3 * random.standard_normal())) for name in names} | {"layer0.bias": 0.0},
        dead_share={f"layer{number}": 0.0 for number in range(6)},
        term_mass={"soft_dice": 0.55, "cross_entropy": 0.45}, term_cosine={"soft_dice|cross_entropy": 0.8},
        gradient_cosine=0.4, noise_scale=3.0, batch=2, loss=0.6, shuffled_loss=0.9, moved=0.1,
        probability={"mean": 0.2, "least": 0.01, "most": 0.95, "spread": 0.2, "between": 0.01, "entropy": 0.3,
                     "above_half": 0.15, "gap": gap, "true_mean": 0.15, "true_between": 0.01},
    )  # fmt: skip
    return replace(healthy, **changes)


def signs(records, setting=SETTING):
    return {(sign.code, sign.name) for sign in replay(History(setting, tuple(records)))[1]}


def changed(records, kind, change, since=0):
    """The records of a kind from an epoch on, each replaced by what `change` makes of it."""
    return [change(one) if isinstance(one, kind) and one.epoch >= since else one for one in records]


def a_good_run(seed, *, best, true, **more) -> list[Seen]:
    """A run that ends clearly better than surface everywhere, whose Dice is 2 true / (1 + true)."""
    return a_run(seed, best=min(1.0, max(best, 2 * true / (1 + true) + 0.25)), true=true, **more)


runs = st.builds(
    a_good_run,
    st.integers(0, 10**6), best=st.floats(0.35, 0.95), lowest=st.floats(0.05, 0.8), noise=st.floats(0.0, 0.02),
    epochs=st.integers(3, 40), true=st.floats(0.02, 0.5),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(runs)
def test_a_healthy_run_of_any_height_length_and_noise_has_no_grave_sign(records) -> None:
    length = max(one.epoch for one in records) + 1
    found = replay(History(replace(SETTING, planned_epochs=length), tuple(records)))[1]
    assert [sign for sign in found if sign.severity != "note" and sign.name != "plateau"] == []


@settings(max_examples=20, deadline=None)
@given(runs, st.integers(0, 2), st.integers(0, 200))
def test_seen_live_or_replayed_the_signs_are_the_same(records, kind, at) -> None:
    place = at % len(records)
    if isinstance(records[place], ValidationSeen):
        records[place] = replace(records[place], total=math.nan, metrics={"dice": 0.0})
    live = Monitors(SETTING)
    seen = [sign for record in records for sign in live.see(record)]
    memory, again = replay(History(SETTING, tuple(records)))
    assert seen == list(again)
    assert memory == live.memory
    *_, (last, _) = replayed(History(SETTING, tuple(records)))
    assert last == memory


@settings(max_examples=20, deadline=None)
@given(runs, st.integers(0, 10**6), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_none_is_found_wherever_it_stands(records, at, bad) -> None:
    places = [index for index, one in enumerate(records) if not isinstance(one, ProbeSeen)]
    place = places[at % len(places)]
    one = records[place]
    if isinstance(one, StepsSeen):
        totals = list(one.totals)
        totals[at % len(totals)] = bad
        records[place] = replace(one, totals=tuple(totals))
    elif isinstance(one, EpochSeen):
        records[place] = replace(one, terms={**one.terms, "soft_dice": bad})
    else:
        records[place] = replace(one, total=bad)
    assert ("R1", "non_finite") in signs(records)


def test_an_event_of_a_non_finite_loss_is_a_sign() -> None:
    assert ("R1", "non_finite") in signs([EventSeen(0, 3, "non_finite", text="the loss is not finite: term focal")])


@pytest.mark.parametrize("factor", [30.0, 1000.0])
def test_a_jump_of_gradient_and_loss_is_a_spike_and_one_of_the_gradient_alone_is_none(factor) -> None:
    def jump(one, loss):
        norms, totals = list(one.gradient_norms), list(one.totals)
        norms[4] *= factor
        totals[4:] = [value + loss for value in totals[4:]]
        return replace(one, gradient_norms=tuple(norms), totals=tuple(totals))

    records = a_run()
    assert ("R2", "spike") in signs(
        [jump(one, 0.4) if isinstance(one, StepsSeen) and one.epoch == 9 else one for one in records]
    )
    assert ("R2", "spike") not in signs(
        [jump(one, 0.0) if isinstance(one, StepsSeen) and one.epoch == 9 else one for one in records]
    )


def test_three_worse_validations_beyond_the_noise_are_degradation_and_three_noisy_ones_are_not() -> None:
    def lower(by):
        return lambda one: replace(one, metrics={"dice": one.metrics["dice"] - by})

    records = a_run(noise=0.004)
    assert ("R3", "degraded") in signs(changed(records, ValidationSeen, lower(0.12), since=12))
    assert ("R3", "degraded") not in signs(changed(records, ValidationSeen, lower(0.02), since=12))
    noisy = a_run(noise=0.03)
    assert ("R3", "degraded") not in signs(changed(noisy, ValidationSeen, lower(0.05), since=12))


def test_a_fall_to_nothing_is_catastrophic() -> None:
    fallen = changed(a_run(), ValidationSeen, lambda one: replace(one, metrics={"dice": 0.01}), since=10)
    assert ("R3", "catastrophic") in signs(fallen)


def test_a_loss_above_the_constants_is_worse_than_the_constant() -> None:
    above = changed(a_run(), ValidationSeen, lambda one: replace(one, progress={"total": 1.2}), since=8)
    assert ("R3", "worse_than_constant") in signs(above)


@pytest.mark.parametrize(("trained", "kind"), [(0.99, "constant"), (0.02, "converged"), (0.5, "unexplained")])
def test_a_plateau_is_of_the_kind_that_the_scale_says(trained, kind) -> None:
    def flat(one):
        return (
            replace(one, progress={"total": trained})
            if isinstance(one, EpochSeen)
            else replace(one, metrics={"dice": 0.4})
        )

    records = changed(changed(a_run(), EpochSeen, flat), ValidationSeen, flat)
    found = [sign for sign in replay(History(SETTING, tuple(records)))[1] if sign.name == "plateau"]
    assert [sign.where for sign in found] == [kind]


def test_a_term_that_never_moves_is_the_reason_of_a_plateau() -> None:
    def stuck(one):
        progress = {"total": 0.6, "soft_dice": 0.5, "cross_entropy": 0.99}
        return replace(one, progress=progress, weighted={"soft_dice": 0.3, "cross_entropy": 0.9})

    records = changed(a_run(), EpochSeen, stuck)
    records = changed(records, ValidationSeen, lambda one: replace(one, metrics={"dice": 0.4}))
    (found,) = [sign for sign in replay(History(SETTING, tuple(records)))[1] if sign.name == "plateau"]
    assert found.where == "term_floor"
    assert "cross_entropy" in found.evidence


def test_training_that_goes_on_while_the_metric_falls_is_overfitting() -> None:
    def fall(one):
        return replace(one, metrics={"dice": 0.6 - 0.02 * one.epoch})

    assert ("R5", "overfitting") in signs(changed(a_run(), ValidationSeen, fall, since=5))
    apart = changed(a_run(lowest=0.1), ValidationSeen, lambda one: replace(one, progress={"total": 0.9}), since=5)
    assert ("R5", "overfitting") in signs(apart)


@pytest.mark.parametrize("with_metric", [True, False])
def test_a_log_of_losses_shows_overfitting_too(with_metric) -> None:
    def bare(number, train, held_out):
        at = {"epoch": number, "step": number + 1}
        metrics = {"dice": 1 - held_out} if with_metric else {}
        return [EpochSeen(**at, total=train), ValidationSeen(**at, total=held_out, metrics=metrics)]

    parted = [one for n in range(20) for one in bare(n, 0.7 * math.exp(-n / 6) + 0.1, 0.4 + 0.02 * n)]
    together = [one for n in range(20) for one in bare(n, 0.7 * math.exp(-n / 6) + 0.1, 0.5 * math.exp(-n / 8) + 0.2)]
    assert ("R5", "overfitting") in signs(parted, RunFacts())
    assert ("R5", "overfitting") not in signs(together, RunFacts())


@pytest.mark.parametrize("share", [0.999, 0.0])
def test_one_class_everywhere_is_said(share) -> None:
    one_class = changed(a_run(), ValidationSeen, lambda one: replace(one, predicted_share=share), since=9)
    assert ("R6", "one_class") in signs(one_class)


def test_identical_shares_on_different_volumes_are_said() -> None:
    def alike(one):
        return replace(one, cases={name: {**values, "predicted_share": 0.6609} for name, values in one.cases.items()})

    assert ("R6", "identical_cases") in signs(changed(a_run(), ValidationSeen, alike))


def test_the_range_of_a_second_sigmoid_is_said_and_one_hair_outside_of_it_is_not() -> None:
    def squeezed(low, high):
        return lambda one: replace(one, probability={**one.probability, "least": low, "most": high})

    assert ("R6", "half_range") in signs(changed(a_run(), ProbeSeen, squeezed(0.5, 0.731)))
    assert ("R6", "half_range") not in signs(changed(a_run(), ProbeSeen, squeezed(0.49, 0.731)))
    assert ("R6", "half_range") not in signs(changed(a_run(), ProbeSeen, squeezed(0.5, 0.75)))


@pytest.mark.parametrize(
    ("ratio", "name"), [(2.5, "too_much_surface"), (0.3, "too_little_surface"), (1.8, None), (0.6, None)]
)
def test_a_share_outside_of_half_to_double_is_bias(ratio, name) -> None:
    off = changed(a_run(), ValidationSeen, lambda one: replace(one, predicted_share=ratio * one.true_share), since=8)
    assert {found for code, found in signs(off) if code == "R7"} == ({name} if name else set())


def test_terms_that_pull_apart_dominate_or_do_nothing() -> None:
    def terms(cosine, mass):
        shares = {"soft_dice": mass, "cross_entropy": 1 - mass}
        return lambda one: replace(one, term_mass=shares, term_cosine={"soft_dice|cross_entropy": cosine})

    assert ("R8", "conflict") in signs(changed(a_run(), ProbeSeen, terms(-0.6, 0.5)))
    assert ("R8", "conflict") not in signs(changed(a_run(), ProbeSeen, terms(-0.6, 0.99)))
    assert {("R8", "domination"), ("R8", "inert")} <= signs(changed(a_run(), ProbeSeen, terms(0.5, 0.9999)))


def test_layers_that_do_not_learn_are_named_and_biases_behind_a_norm_are_not() -> None:
    name = "layer3.weight"

    def still(**changes):
        def change(one):
            parts = {"update_ratio": {**one.update_ratio, name: 0.0}}
            if changes.get("gradient") is not None:
                parts["gradient"] = {**one.gradient, name: changes["gradient"]}
            return replace(one, **parts, frozen=changes.get("frozen", ()))

        return changed(a_run(), ProbeSeen, change)

    assert ("R9", "frozen") in signs(still(gradient=0.0, frozen=(name,)))
    assert ("R9", "frozen") in signs(still(gradient=0.1))
    assert ("R9", "no_gradient") in signs(still(gradient=0.0))
    bias = changed(a_run(), ProbeSeen, lambda one: replace(one, update_ratio={**one.update_ratio, "layer0.bias": 0.0}))
    assert {code for code, _ in signs(bias)} & {"R9"} == set()


@pytest.mark.parametrize(
    ("factor", "name"), [(300.0, "update_too_large"), (1e-3, "update_too_small"), (10.0, None), (0.3, None)]
)
def test_updates_out_of_proportion_are_said(factor, name) -> None:
    def scaled(one):
        return replace(one, update_ratio={key: factor * value for key, value in one.update_ratio.items()})

    assert {found for code, found in signs(changed(a_run(), ProbeSeen, scaled)) if code == "R9"} == (
        {name} if name else set()
    )


def test_channels_that_carry_nothing_are_said() -> None:
    dead = changed(a_run(), ProbeSeen, lambda one: replace(one, dead_share={**one.dead_share, "layer2": 0.5}), since=6)
    assert ("R9", "dead") in signs(dead)


def test_clipping_and_a_rate_at_its_end_are_said() -> None:
    clipped = changed(a_run(), EpochSeen, lambda one: replace(one, clipped_share=0.9), since=5)
    assert ("R10", "clipped") in signs(clipped)
    ended = changed(a_run(), EpochSeen, lambda one: replace(one, rate=1e-6), since=5)
    assert ("R10", "rate_at_minimum") in signs(ended)
    writers = [EventSeen(3, 40, kind) for kind in ("rate_scaled", "rate_reduced", "weight_noise")]
    assert ("R10", "rate_writers") in signs([*a_run(), *writers])


def test_an_event_takes_back_nothing_that_an_epoch_showed() -> None:
    clipped = changed(a_run(), EpochSeen, lambda one: replace(one, clipped_share=0.9))
    eventful = [part for one in clipped for part in (one, EventSeen(one.epoch, one.step, "planned_steps"))]
    told = [sign for sign in replay(History(SETTING, tuple(eventful)))[1] if sign.name == "clipped"]
    assert [sign.severity for sign in told] == ["note"]


def test_noise_of_gradients_input_and_loader() -> None:
    noisy = changed(a_run(), ProbeSeen, lambda one: replace(one, noise_scale=500.0))
    assert ("R11", "batch_noise") in signs(noisy)
    blind = changed(a_run(), ProbeSeen, lambda one: replace(one, shuffled_loss=one.loss, moved=0.0))
    assert ("R13", "input_ignored") in signs(blind)
    waiting = changed(a_run(), EpochSeen, lambda one: replace(one, loader_seconds=4.0))
    assert ("R14", "starved") in signs(waiting)


def test_a_loss_that_falls_with_the_metric_is_a_disagreement() -> None:
    records = changed(a_run(), ValidationSeen, lambda one: replace(one, metrics={"dice": 0.7 - 0.02 * one.epoch}))
    assert ("R12", "disagreement") in signs(records)


def test_losses_before_and_after_a_phase_are_not_ranked() -> None:
    records = a_run()
    middle = [EventSeen(10, 10 * STEPS, "phase")]
    assert ("R12", "objectives_differ") in signs(
        [*records[: len(records) // 2], *middle, *records[len(records) // 2 :]]
    )


def test_a_sign_that_is_over_is_taken_back_and_one_that_happened_is_not() -> None:
    low = changed(
        a_run(), ValidationSeen, lambda one: replace(one, predicted_share=0.0) if one.epoch < 15 else one, since=8
    )
    memory, _ = replay(History(SETTING, tuple(low)))
    assert ("R6", "one_class", "background") not in memory.standing
    bad = changed(a_run(), ValidationSeen, lambda one: replace(one, total=math.nan) if one.epoch == 5 else one)
    memory, _ = replay(History(SETTING, tuple(bad)))
    assert [key[:2] for key in memory.lasting] == [("R1", "non_finite")]


def test_a_long_history_is_thinned_evenly_to_its_end_and_a_short_one_is_left() -> None:
    short = History(SETTING, tuple(a_run()))
    assert thinned(short) == short
    rows = tuple(ValidationSeen(number, number + 1, total=1.0) for number in range(10 * MOST_ROWS))
    event = EventSeen(0, 0, "best")
    long = thinned(History(SETTING, (event, *rows)))
    assert len(long.records) == MOST_ROWS + 1
    assert long.records[0] == event
    assert long.records[-1] == rows[-1]
    assert long.faults


def test_every_monitor_has_a_code_of_its_own() -> None:
    assert list(dict.fromkeys(monitor.code for monitor in MONITORS)) == [f"R{number}" for number in range(1, 15)]
    assert len({(monitor.code, monitor.title) for monitor in MONITORS}) == len(MONITORS)


@pytest.mark.parametrize(("rise", "steps", "is_jump"), [(0.6, 15, True), (0.6, 2, False), (0.1, 15, False)])
def test_a_loss_that_jumps_and_stays_is_a_jump_and_a_single_odd_batch_is_none(rise, steps, is_jump) -> None:
    def lift(one):
        totals = [value + (rise if 4 <= place < 4 + steps else 0.0) for place, value in enumerate(one.totals)]
        return replace(one, totals=tuple(totals))

    lifted = [lift(one) if isinstance(one, StepsSeen) and one.epoch == 9 else one for one in a_run()]
    assert (("R2", "jump") in signs(lifted)) == is_jump


def test_a_jump_at_a_change_of_the_objective_is_none() -> None:
    records = a_run()
    place = next(index for index, one in enumerate(records) if isinstance(one, StepsSeen) and one.epoch == 9)
    first = records[place].step - STEPS
    lifted = changed(records, StepsSeen, lambda one: replace(one, totals=tuple(v + 0.6 for v in one.totals)), since=9)
    assert ("R2", "jump") in signs(lifted)
    assert ("R2", "jump") not in signs([*lifted[:place], EventSeen(9, first, "phase"), *lifted[place:]])
