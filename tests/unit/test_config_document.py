"""The schema's description is complete and true: what it calls a key can be set, what it calls a default is one."""

import re

import pytest
from ruamel.yaml import YAML

from volumen.config.document import schema_rows
from volumen.config.dump import flat_values
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.errors import UserError

ROWS = schema_rows(Config)


def test_every_value_of_a_configuration_has_a_row() -> None:
    keys = {row.key for row in ROWS}
    values = flat_values(load_config("preset:default").config)
    assert {re.sub(r"\.\d+", "[]", key) for key in values} <= keys


def test_defaults_types_and_ranges_stand_as_written() -> None:
    rows = {(row.key, row.when): row for row in ROWS}
    epochs = rows["training.epochs", ""]
    assert (epochs.type, epochs.default, epochs.range, epochs.required) == (
        "integer",
        "200",
        ">= 1 and <= 1000000",
        False,
    )
    momentum = rows["optimiser.momentum", "optimiser.kind = sgd"]
    assert (momentum.type, momentum.default, momentum.range) == ("number", "0.99", ">= 0.0 and < 1.0")
    dataset = rows["data.dataset", ""]
    assert dataset.required
    assert dataset.description == "Folder written by `volumen prepare`."
    assert rows["loss.curriculum[].start_epoch", ""].range == ">= 0 and <= 1000000"
    assert rows["training.gradient_clip", ""].type == "number > 0.0 and <= 1000000000000.0 or null"


def test_every_number_has_two_bounds_but_for_what_a_run_is_judged_by() -> None:
    for row in ROWS:
        words = f"{row.type} {row.range}"
        if "integer" in words or "number" in words:
            assert ">" in words, row.key
            assert "<" in words, row.key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"seed={2**63}", "seed: expected integer >= 0 and <= 9223372036854775807"),
        ("seed=-1", "seed: expected integer >= 0"),
        ("data.patch=[4096, 64, 64]", "patch.0: expected integer >= 8 and <= 2048"),
        ("data.patch=[2048, 2048, 2048]", "has 8589934592 voxels, at most 1073741824"),
        ("inference.tile=[2048, 2048, 2048]", "has 8589934592 voxels, at most 1073741824"),
        ("training.validation={kind: crops, crop: [-8, 8, 8]}", "crop.0: expected integer >= 8"),
        ("training.validation={kind: crops, crop: [2048, 2048, 2048]}", "at most 1073741824"),
        ("model={filters: 512, depth: 6}", "make 32768 channels at the coarsest level, at most 4096"),
        ("optimiser={kind: adamw, betas: [1.0, 0.999]}", "betas.0: expected number >= 0.0 and < 1.0"),
        ("optimiser={kind: adamw, eps: 1e-300}", "eps: expected number >= 1e-16"),
        ("training.epochs=1000000000000000000", "epochs: expected integer >= 1 and <= 1000000"),
        ("inference.overlap=0.9999999", "overlap: expected number >= 0.0 and <= 0.95"),
        ("data.augmentation.blur_sigma_voxels=[1, 1e9]", "blur_sigma_voxels.1: expected number"),
        ("loss.terms.soft_dice.weight=1e308", "weight: expected number >= 0.0 and <= 1000000.0"),
    ],
)
def test_what_would_overflow_later_is_refused_at_once(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("preset:default", [override])
    assert message in str(caught.value)


def test_a_default_of_the_table_is_the_default_of_the_schema() -> None:
    values = flat_values(load_config("preset:default", ["optimiser={kind: sgd, learning_rate: 0.01}"]).config)
    origins = load_config("preset:default", ["optimiser={kind: sgd, learning_rate: 0.01}"]).origins
    kinds = {"model.kind = unet", "optimiser.kind = sgd", "schedule.kind = polynomial", ""}
    checked = 0
    for row in ROWS:
        if row.when in kinds and origins.get(row.key) == "default" and row.default:
            assert YAML(typ="safe").load(row.default) == values[row.key], row.key
            checked += 1
    assert checked > 40


def test_one_section_of_the_table() -> None:
    rows = schema_rows(Config, "training")
    assert rows[0].key == "training"
    assert all(row.key.startswith("training") for row in rows)
    assert {row.key for row in schema_rows(Config, "loss.curriculum")} >= {"loss.curriculum", "loss.curriculum[].name"}


def test_a_section_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"no key 'trainning'; did you mean training\?"):
        schema_rows(Config, "trainning")
    with pytest.raises(UserError, match="keys at the top: name, seed"):
        schema_rows(Config, "qqqq")
