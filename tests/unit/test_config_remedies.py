"""A file of remedies is read like a configuration: every mistake at its line, and nothing said that is not read."""

import pytest

from volumen.config.load import load_config
from volumen.config.problems import ConfigError
from volumen.config.remedies import FIXED, load_remedies, remedies_of
from volumen.config.schema import Config

CONTROL = load_config("preset:default", ["data.dataset=somewhere"]).config


def read(tmp_path, text: str):
    path = tmp_path / "remedies.yaml"
    path.write_text(text, encoding="utf-8")
    return load_remedies(path, CONTROL)


def test_dotted_nested_and_listed_say_the_same(tmp_path):
    forms = (
        "calm:\n  why: slower\n  optimiser.learning_rate: 1e-4\n  loss.terms.cross_entropy.weight: 0.5\n",
        "calm:\n  optimiser: {learning_rate: 1e-4}\n  loss: {terms.cross_entropy: {weight: 0.5}}\n  why: slower\n",
        "- name: calm\n  why: slower\n  optimiser.learning_rate: 1e-4\n  loss: {terms: {cross_entropy.weight: 0.5}}\n",
        "- calm: {why: slower, optimiser.learning_rate: 1e-4, loss.terms.cross_entropy.weight: 0.5}\n",
    )
    found = [read(tmp_path, form) for form in forms]
    assert all(one == found[0] for one in found)
    (calm,) = found[0]
    assert (calm.name, calm.why) == ("calm", "slower")
    wanted = load_config(
        "preset:default",
        ["data.dataset=somewhere", "optimiser.learning_rate=1e-4", "loss.terms.cross_entropy.weight=0.5"],
    )
    assert calm.config == wanted.config
    assert {each.key for each in calm.changes} == {"optimiser.learning_rate", "loss.terms.cross_entropy.weight"}
    assert calm.factors == ("objective", "learning rate")


def test_what_was_written_can_be_read_again(tmp_path):
    first = read(tmp_path, "a: {data.patch.0: 32}\nb:\n  optimiser: {kind: sgd, learning_rate: 0.1}\n")
    assert first[0].config.data.patch == (32, 64, 64)
    assert remedies_of({one.name: one.written for one in first}, CONTROL, "again") == first


def test_another_kind_is_one_factor_and_a_rate_with_it_another(tmp_path):
    alone, both = read(
        tmp_path,
        "alone: {optimiser: {kind: sgd, learning_rate: 0.005}}\nboth: {optimiser: {kind: sgd, learning_rate: 0.1}}\n",
    )
    assert alone.factors == ("optimiser",)
    assert set(both.factors) == {"optimiser", "learning rate"}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a:\n  optimiser.lerning_rate: 1\n", 2, "did you mean optimiser.learning_rate"),
        ("a:\n  optimiser:\n    learning_rate: fast\n", 3, "a.optimiser.learning_rate: expected number"),
        ("a: {optimiser.learning_rate: 1e-3}\nb:\n  seed: 3\n", 3, "b.seed: this stays as it is"),
        ("a:\n  optimiser.learning_rate: 1\n  optimiser: {learning_rate: 2}\n", 3, "written twice"),
        ("a:\n  optimiser: {learning_rate: 1}\n  optimiser.learning_rate.x: 2\n", 3, "written twice"),
        ("a: {data.batch: 4}\ncontrol: {data.batch: 2}\n", 2, "choose another name"),
        ("optimiser:\n  learning_rate: 1\n", 1, "this is a key of the configuration"),
        ("optimiser.learning_rate: 1\n", 1, "expected the settings that it changes, got 1"),
        ("'a b': {data.batch: 4}\n", 1, "a name is up to 60"),
        ("a:\n  why: only words\n", 1, "it changes nothing"),
        ("a:\n  why: 3\n  data.batch: 4\n", 2, "a.why: expected text"),
        ("a:\n  data.patch.3: 32\n", 2, "there is no item 3"),
        ("a:\n  data.patch: [60, 64, 64]\n", 1, "must be a multiple of 16"),
        ("a:\n  data..batch: 4\n", 2, "not words joined by dots"),
        ("- {name: a, data.batch: 4}\n- {name: a, data.batch: 8}\n", 2, "there twice"),
        ("- {data.batch: 4, data.normalisation: none}\n", 1, "expected a remedy with a `name`"),
        ("just words\n", 1, "got a single value"),
        ("a: {data.batch: 4\n", 2, "not valid YAML"),
        ("", 1, "there is no remedy"),
    ],
)
def test_every_mistake_is_told_at_its_line(tmp_path, text, line, says):
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert f"remedies.yaml:{line}: " in str(raised.value)
    assert says in str(raised.value)


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, "a: {seed: 1}\nb: {data.batsh: 1}\nc: {optimiser.learning_rate: -1}\n")
    assert [problem.origin.rpartition(":")[2] for problem in raised.value.problems] == ["1", "2", "3"]


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_remedies(tmp_path / "none.yaml", CONTROL)


@pytest.mark.parametrize("key", sorted(FIXED))
def test_what_stays_as_it_is_exists(key):
    section = Config
    place = {**CONTROL.model_dump(), "model": CONTROL.model.model_dump()}
    for part in key.split("."):
        assert part in place, section
        place = place[part]
