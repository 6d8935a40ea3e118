"""Laws of configurations: what is written is read back equal, hashes tell apart, merging has no memory."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from volumen.config.compare import diff_configs
from volumen.config.describe import value_text
from volumen.config.dump import config_hash, config_values, dump_config, flat_values
from volumen.config.layers import merge, with_defaults
from volumen.config.load import load_config, load_model
from volumen.config.places import place_of
from volumen.config.problems import Problem
from volumen.config.schema import Config
from volumen.config.source import located, parse
from volumen.config.stamp import dump_resolved

# Lone surrogates and zero bytes are no text that a file name or a terminal takes, and are refused.
words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20) | st.sampled_from(
    [
        "1e-3",
        "null",
        "yes",
        "~",
        "017",
        "0o17",
        "1_000",
        "2026-01-01",
        "- a",
        "a: b",
        "#",
        "<<",
        "=",
        " x ",
        "'",
        '"',
        "\n",
        "x\n\n",
    ]
)
whole = st.integers(-(2**64) + 1, 2**64 - 1)  # larger ones are refused
scalars = st.none() | st.booleans() | whole | st.floats(allow_nan=False) | words
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)
mappings = st.dictionaries(words, trees, max_size=4)


class Free(BaseModel):
    """Anything that a configuration can hold."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    text: str = ""
    number: float = 0.0
    whole: int = 0
    table: dict[str, Any] = {}
    items: tuple[str, ...] = ()
    inner: "Free | None" = None


frees: st.SearchStrategy[Free] = st.deferred(
    lambda: st.builds(
        Free,
        text=words,
        number=st.floats(allow_nan=False),
        whole=whole,
        table=mappings,
        items=st.lists(words, max_size=3).map(tuple),
        inner=st.none() | frees,
    )
)


def read_back(text: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(text.encode())
        return load_model(Free, path).config


@settings(deadline=None, max_examples=50)
@given(frees)
def test_any_values_survive_the_file(config: Free) -> None:
    for write in (dump_config, dump_resolved, lambda given: dump_config(given, comments=True)):
        again = read_back(write(config))
        assert again == config
        assert config_hash(again) == config_hash(config)


def reordered(value: Any) -> Any:
    """The same values with the keys of every mapping in reverse, and whole numbers as floats."""
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [reordered(item) for item in value]
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return float(value) if whole else value


@settings(deadline=None, max_examples=50)
@given(frees)
def test_equal_configurations_have_equal_hashes_and_no_difference(config: Free) -> None:
    twin = config.model_copy(update={"table": reordered(config.table)})
    assert twin == config
    assert config_hash(twin) == config_hash(config)
    assert diff_configs(twin, config) == []


@settings(deadline=None, max_examples=50)
@given(frees, words, trees)
def test_one_change_changes_the_hash_and_is_the_only_difference(config: Free, key: str, value: Any) -> None:
    changed = config.model_copy(update={"text": config.text + "x"})
    assert config_hash(changed) != config_hash(config)
    assert [difference.key for difference in diff_configs(config, changed)] == ["text"]
    deeper = config.model_copy(update={"table": {**config.table, key: {"now": value, "before": config.table.get(key)}}})
    assert config_hash(deeper) != config_hash(config)
    assert diff_configs(config, deeper) != []


@settings(deadline=None, max_examples=50)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_written_in_a_message_is_that_float(number: float) -> None:
    problems: list[Problem] = []
    tree = parse(value_text(number), str, problems)
    assert problems == []
    assert tree is not None
    assert tree.value == number
    assert isinstance(tree.value, float)


@settings(deadline=None, max_examples=50)
@given(mappings, mappings, mappings)
def test_merging_is_associative_and_a_layer_over_itself_changes_nothing(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    a, b, c = (located(layer, "f:1") for layer in (one, two, three))
    assert merge(merge(a, b, []), c, []).plain() == merge(a, merge(b, c, []), []).plain()
    assert merge(a, a, []).plain() == a.plain()
    assert merge(located({}, "f:1"), a, []).plain() == a.plain()


def share(low: float = 0.0, high: float = 1.0) -> st.SearchStrategy[float]:
    return st.floats(low, high)


optimisers = st.fixed_dictionaries(
    {"kind": st.just("sgd")}, optional={"learning_rate": share(1e-8), "momentum": share(0.1, 0.99)}
) | st.fixed_dictionaries(
    {"kind": st.just("adamw")},
    optional={"learning_rate": share(1e-8), "betas": st.lists(share(), min_size=2, max_size=2)},
)
models = (
    st.fixed_dictionaries(
        {"kind": st.just("unet"), "depth": st.integers(1, 4)}, optional={"filters": st.integers(1, 512)}
    )
    | st.fixed_dictionaries({"kind": st.just("resenc"), "size": st.sampled_from("SM")})
    | st.fixed_dictionaries({"kind": st.just("monai"), "name": words}, optional={"arguments": mappings})
)
schedules = st.sampled_from(["constant", "polynomial", "cosine_warm_restarts", "plateau", "one_cycle"]).map(
    lambda kind: {"kind": kind}
)
trainings = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 10**6),
        "gradient_clip": st.none() | share(1e-6, 100.0),
        "average": st.none() | st.just({}) | st.fixed_dictionaries({"decay": share(0.1, 0.9)}),
        "swa": st.none() | st.fixed_dictionaries({"start_epoch": st.integers(0, 99)}),
        "weight_noise": st.none() | st.fixed_dictionaries({"layers": st.lists(words, max_size=3)}),
    },
)
documents = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries({"dataset": words, "batch": st.integers(1, 8)}),
        "loss": st.fixed_dictionaries(
            {"terms": st.fixed_dictionaries({"soft_dice": st.fixed_dictionaries({"weight": share(0.1, 2.0)})})}
        ),
    },
    optional={"optimiser": optimisers, "model": models, "schedule": schedules, "training": trainings},
)


@settings(deadline=None, max_examples=25)
@given(documents)
def test_the_runs_own_record_is_the_run(document: dict[str, Any]) -> None:
    if "monai" in str(document.get("model")):
        owned = {"spatial_dims", "in_channels", "out_channels"}
        arguments = document["model"].get("arguments", {})
        document["model"]["arguments"] = {key: value for key, value in arguments.items() if key not in owned}
    model = document.get("model", {})
    if "filters" in model:  # together they are bounded
        model["filters"] = min(model["filters"], 4096 >> model.get("depth", 4))
    config = Config.model_validate_json(json.dumps(document))
    writers: tuple[Callable[[Any], str], ...] = (dump_resolved, lambda given: dump_config(given, comments=True))
    with tempfile.TemporaryDirectory() as folder:
        for write in writers:
            path = Path(folder) / "config.yaml"
            path.write_bytes(write(config).encode())
            again = load_config(path)
            assert again.config == config
            assert again.hash == config_hash(config)
            assert set(again.origins) == set(flat_values(config))
            assert "default" not in again.origins.values()


@settings(deadline=None, max_examples=25)
@given(documents)
def test_defaults_written_out_change_nothing_and_are_written_once(document: dict[str, Any]) -> None:
    place = place_of(Config)
    full = with_defaults(located(document, "f:1"), place)
    assert with_defaults(full, place) == full
    try:
        given = Config.model_validate_json(json.dumps(document))
    except ValidationError:
        return  # documents are drawn that are refused: too wide a network
    assert Config.model_validate_json(json.dumps(full.plain())) == given
    assert config_values(given) == full.plain()
