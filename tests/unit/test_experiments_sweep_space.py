"""Spaces: what a file says is what is drawn; every mistake is told at its line before anything runs."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep_stubs import SPACE, plan_of
from volumen.config.load import load_config
from volumen.config.problems import ConfigError
from volumen.errors import UserError
from volumen.experiments.sweep_corners import refusal
from volumen.experiments.sweep_file import load_space
from volumen.experiments.sweep_halving import Entry
from volumen.experiments.sweep_plan import _metric
from volumen.experiments.sweep_sampling import draw, grid_of
from volumen.experiments.sweep_space import Factor, Space, value_at

CONFIG = load_config("preset:default", ["data.dataset=nowhere"]).config
WHOLE = """
optimiser.kind: [adamw, sgd]
optimiser.learning_rate: {from: 1e-5, to: 1e-2, log: true}
optimiser.momentum: {from: 0.8, to: 0.99, when: {optimiser.kind: sgd}}
model.depth: {from: 2, to: 4}
optimiser.weight_decay: {from: 0, to: 1}
data.patch: [[32, 32, 32], [48, 48, 48]]
loss.terms:
  choices:
    dice: {soft_dice: {weight: 1}, cross_entropy: {weight: 0}}
    both: {soft_dice: {weight: 1}, cross_entropy: {weight: 1}}
"""


def space_of(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return load_space(path, CONFIG)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    return space_of(tmp_path_factory.mktemp("space"), WHOLE)


def test_a_range_is_of_whole_numbers_where_its_key_is(space):
    kinds = {one.key: one.whole for one in space.factors}
    assert kinds["model.depth"]
    assert not kinds["optimiser.weight_decay"]  # from 0 to 1, and the key takes fractions


@settings(max_examples=40)
@given(
    number=st.integers(1, 500), seed=st.integers(0, 2**40), sampler=st.sampled_from(["tpe", "random"]), data=st.data()
)
def test_what_is_drawn_is_in_the_space_and_a_function_of_seed_number_and_history(space, number, seed, sampler, data):
    before = [Entry(one, draw(space, "random", seed + 1, one, [], (1,)), values=data.draw(
        st.sampled_from([(), (0.1,), (0.3, 0.2)])), reason=data.draw(st.sampled_from(["", "diverged"])))
        for one in range(1, data.draw(st.integers(1, 13)))]  # fmt: skip
    drawn = draw(space, sampler, seed, number, before, (1, 3))
    assert drawn == draw(space, sampler, seed, number, before, (1, 3))
    assert refusal(space, CONFIG, drawn) == ""
    config = space.config(CONFIG, drawn)
    assert ("optimiser.momentum" in drawn) == (config.optimiser.kind == "sgd")
    for factor in space.factors:
        if factor.key in drawn and factor.low is not None:
            assert factor.low <= drawn[factor.key] <= factor.high
            assert value_at(config, factor.key) == drawn[factor.key]
    assert list(config.data.patch) == [int(one) for one in re.findall(r"\d+", drawn["data.patch"])]


@given(st.integers(-20, 20), st.integers(1, 30), st.integers(1, 40))
def test_steps_never_leave_a_range(low, step, width):
    factor = Factor("x", "", low=low, high=low + width, step=min(step, width), whole=True)
    assert factor.grid[0] == low
    assert factor.grid[-1] == factor.last <= low + width < factor.last + min(step, width)
    assert len(factor.grid) == len(set(factor.grid))


def test_a_grid_has_every_combination_once_and_trials_walk_through_it():
    space = Space(
        (
            Factor("a", "", choices={"x": 1, "y": 2}),
            Factor("b", "", low=1, high=3, whole=True, when={"a": ("y",)}),
            Factor("c", "", choices={"p": 1, "q": 2}),
        )
    )
    points = grid_of(space)
    assert len(points) == 2 + 3 * 2
    walked = [draw(space, "grid", 5, number, [], (1,)) for number in range(1, 9)]
    assert sorted(map(str, walked)) == sorted(map(str, points))
    with pytest.raises(UserError, match=r"here:1.*step"):
        grid_of(SPACE)


WRONG = {
    "optimiser.learning_rat: {from: 1e-5, to: 1e-2}": "did you mean optimiser.learning_rate",
    "model.depth: {from: 0, to: 4}": "with 0: expected integer >= 1",
    "model.depth: {from: 1.5, to: 4}": "with 1.5",
    "data.patch: [[17, 17, 17], [32, 32, 32]]": "must be a multiple",
    "optimiser.kind: [adamw, adam]": "with adam",
    "model.depth: 3": "put it into brackets",
    "model.depth: [3]": "2 to 100 choices",
    "model.depth: [2, 2, 3]": "twice",
    "model.depth: {from: 4, to: 2}": "is not below",
    "model.depth: {from: 2, to: 4, stop: 1}": "stop is not known",
    "optimiser.learning_rate: {from: 0, to: 1, log: true}": "above 0",
    "optimiser.learning_rate: {from: 1e-3, to: 1, log: true, step: 0.1}": "no `step`",
    "loss.terms: [{soft_dice: {weight: 1}}, {soft_dice: {weight: 2}}]": "need names",
    "seed: [1, 2]": "--confirm",
    "data: {choices: {a: {fold: 1}, b: {batch: 2}}}": "data.fold: this stays as it is",
    "model: [1, 2]": "with 1",
    "training.epochs: [1, 2]": "--epochs",
    "optimiser.momentum: {from: 0.1, to: 0.9, when: {optimiser.kind: sgd}}": "no choices above",
    "loss.terms: {choices: {a: {}, b: {voi: {}}}}\nloss.terms.soft_dice.weight: [1, 2]": "keep one of them",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_mistakes_are_told_at_their_line(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        space_of(tmp_path, f"# a comment\n{text}\n")
    assert WRONG[text] in str(caught.value)
    assert re.search(r"space\.yaml:[23]: ", str(caught.value))


def test_a_value_that_goes_with_some_others_is_no_mistake(tmp_path):
    space = space_of(tmp_path, "data.patch: [[24, 24, 24], [32, 32, 32]]\nmodel.depth: [3, 4]\n")
    assert refusal(space, CONFIG, {"data.patch": "[24,24,24]", "model.depth": "4"})
    assert not refusal(space, CONFIG, {"data.patch": "[24,24,24]", "model.depth": "3"})


def test_own_values_are_those_that_change_nothing(tmp_path):
    space = space_of(tmp_path, "optimiser.kind: [sgd, adamw]\noptimiser.learning_rate: {from: 0.5, to: 1}\n")
    assert space.own(CONFIG) == {"optimiser.kind": "adamw"}  # the learning rate lies outside


def test_a_loss_is_no_measure(space):
    with pytest.raises(UserError, match=r"the sweep changes the loss itself \(loss.terms\)"):
        _metric("validation_loss", CONFIG, space)
    with pytest.raises(UserError, match="a lower loss is not a better mask"):
        _metric("loss", CONFIG, SPACE)
    with pytest.raises(UserError, match="one of"):
        _metric("accuracy", CONFIG, SPACE)
    assert _metric(None, CONFIG, SPACE) == CONFIG.training.selection_metric


def test_all_trials_are_equally_long_and_validated_at_their_rungs():
    plan = plan_of(rungs=(2, 6), steps_per_epoch=5)
    for parameters in ({}, {"model.depth": 2, "optimiser.learning_rate": 0.01}):
        config = plan.trial_config(3, parameters)
        assert config.training.epochs == 6
        assert config.data.sampling.patches_per_epoch == 5 * config.data.batch
        assert all(rung % config.training.validate_every_epochs == 0 for rung in plan.rungs)
        assert config.training.early_stopping is None
        assert (config.name, config.seed) == ("trial-0003", plan.config.seed)
