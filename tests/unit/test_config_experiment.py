"""What a run is for: criteria are read, old forms too, and mistakes are errors with their line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.config.dump import dump_config
from volumen.config.experiment import Experiment
from volumen.config.inheritance import preset_names
from volumen.config.load import load_config
from volumen.criteria import parse_criterion, print_criterion
from volumen.criteria.grammar import Comparison, Within
from volumen.criteria.quantities import METRICS, TERMS
from volumen.errors import UserError

OLD_NAMES = st.sampled_from(["validation_loss", *METRICS, *(f"loss.{name}" for name in TERMS)])
NUMBERS = st.floats(0, 1, allow_nan=False)


@given(OLD_NAMES, st.one_of(st.none(), NUMBERS), st.one_of(st.none(), NUMBERS))
def test_the_old_form_is_read_as_its_expression(name, low, high):
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return
    old = {"quantity": name, "at_least": low, "at_most": high}
    text = json.dumps({"criteria": [{key: value for key, value in old.items() if value is not None}]})
    (found,) = Experiment.model_validate_json(text).criteria
    criterion = parse_criterion(found)
    assert print_criterion(criterion) == found or "e" in found or ".0" in found
    assert criterion.quantity == name
    if low is not None and high is not None:
        assert isinstance(criterion, Within)
        assert (criterion.low.value, criterion.high.value) == (low, high)
    else:
        assert isinstance(criterion, Comparison)
        assert (criterion.operator, criterion.bound.value) == (("<=", high) if low is None else (">=", low))


def test_a_run_of_an_older_version_reads_back(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "base: preset:default\ndata: {dataset: x}\nexperiment:\n  criteria:\n"
        "    - {quantity: dice, at_least: 0.5, at_most: null}\n"
        "    - {quantity: predicted_share, at_least: 0.3, at_most: 0.7}\n"
    )
    assert load_config(path).config.experiment.criteria == ("dice >= 0.5", "predicted_share within 0.3..0.7")


def test_a_mistake_has_its_line_and_its_letter(tmp_path):
    path = tmp_path / "config.yaml"
    text = (
        "base: preset:default\ndata: {dataset: x}\nexperiment:\n  criteria:\n    - val.loss < 1\n    - val.loss < 30%\n"
    )
    path.write_text(text)
    with pytest.raises(UserError, match=r"config.yaml:6: experiment.criteria.1: .* character 14: '%' is no unit"):
        load_config(path)


def test_probabilities_add_up_to_at_most_one():
    two = '{"outcomes": [{"what": "a", "probability": 0.6}, {"what": "b", "probability": %s}]}'
    assert len(Experiment.model_validate_json(two % 0.4).outcomes) == 2
    with pytest.raises(ValueError, match=r"add up to 1\.1"):
        Experiment.model_validate_json(two % 0.5)


@pytest.mark.parametrize("name", preset_names())
def test_criteria_of_presets_survive_a_round_trip(name, tmp_path):
    config = load_config(f"preset:{name}", ["data.dataset=x"]).config
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path).config.experiment == config.experiment
