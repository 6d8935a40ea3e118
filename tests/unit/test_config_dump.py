"""A configuration written out, hashed, recorded and compared."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from volumen import __version__
from volumen.config.compare import ABSENT, Difference, diff_configs
from volumen.config.dump import config_hash, config_values, dump_config
from volumen.config.load import load_config
from volumen.config.stamp import dump_resolved, read_stamp


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True)
    number: float = 1e-5
    any: Any = None


class Root(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    name: str = "x"
    """What it is called: a #name."""
    inner: Inner = Inner()
    names: tuple[str, ...] = ()
    table: dict[str, int] = {}
    items: tuple[Inner, ...] = ()


def test_the_text_holds_every_value_in_the_schemas_order() -> None:
    text = dump_config(Root(items=(Inner(number=2.0),), table={"b": 1, "a": 2}))
    assert text == (
        "name: x\ninner:\n  number: 1e-05\n  any: null\nnames: []\ntable:\n  b: 1\n  a: 2\n"
        "items:\n  - number: 2.0\n    any: null\n"
    )


def test_comments_say_what_a_key_means_and_change_no_value() -> None:
    text = dump_config(Root(), comments=True)
    assert text.startswith("# What it is called: a #name.\nname: x\n")
    assert YAML(typ="safe").load(text) == config_values(Root())


def test_writing_does_not_change_how_others_write() -> None:
    import io

    dump_config(Root())
    stream = io.StringIO()
    YAML().dump({"a": None}, stream)
    assert stream.getvalue() == "a:\n"


def test_equal_configurations_have_equal_hashes() -> None:
    assert config_hash(Root(table={"a": 1, "b": 2})) == config_hash(Root(table={"b": 2, "a": 1}))
    assert config_hash(Root(inner=Inner(any=1))) == config_hash(Root(inner=Inner(any=1.0)))
    assert config_hash(Root(inner=Inner(number=0.0))) == config_hash(Root(inner=Inner(number=-0.0)))
    assert len(config_hash(Root())) == 64


def test_any_change_changes_the_hash() -> None:
    configs = [
        Root(),
        Root(name="y"),
        Root(inner=Inner(number=1.0000000000000002e-5)),
        Root(inner=Inner(number=float("inf"))),
        Root(inner=Inner(number=float("nan"))),
        Root(inner=Inner(any="1")),
        Root(inner=Inner(any=1)),
        Root(inner=Inner(any=True)),
        Root(inner=Inner(any=[])),
        Root(inner=Inner(any={})),
        Root(inner=Inner(any="")),
        Root(names=("a",)),
        Root(table={"a": 1}),
        Root(items=(Inner(),)),
        Root(items=(Inner(), Inner())),
    ]
    assert len({config_hash(config) for config in configs}) == len(configs)


def test_the_hash_does_not_depend_on_where_a_value_came_from(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("base: preset:default\ntraining: {epochs: 3}\n")
    assert load_config(tmp_path / "c.yaml").hash == load_config("preset:default", ["training.epochs=3"]).hash
    assert load_config("preset:default").hash != load_config("preset:default", ["training.epochs=3"]).hash


def test_the_record_names_versions_and_hash_without_importing_torch(tmp_path: Path) -> None:
    config = load_config("preset:default").config
    (tmp_path / "config.yaml").write_text(dump_resolved(config))
    stamp = read_stamp(tmp_path / "config.yaml")
    assert stamp.hash == config_hash(config)
    assert stamp.versions == {
        "volumen": __version__,
        "python": sys.version.split()[0],
        "torch": version("torch"),
        "numpy": version("numpy"),
    }
    code = (
        "import sys\nfrom volumen.config.load import load_config\nfrom volumen.config.stamp import dump_resolved\n"
        "dump_resolved(load_config('preset:default').config)\n"
        "print(sorted({'torch', 'numpy', 'numba', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "[]\n"


def test_a_run_folders_record_is_read_back_equal(tmp_path: Path) -> None:
    loaded = load_config("preset:default", ["optimiser.kind=sgd", "training.swa.start_epoch=4"])
    (tmp_path / "config.yaml").write_text(dump_resolved(loaded.config))
    again = load_config(tmp_path / "config.yaml")
    assert again.config == loaded.config
    assert again.hash == loaded.hash


@pytest.mark.parametrize("value", [object(), b"x", 1j, frozenset("a")])
def test_what_has_no_text_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="a configuration holds text, numbers, lists and mappings"):
        config_hash(Inner(any=value))


def test_the_difference_names_both_values_and_origins() -> None:
    left = load_config("preset:default", ["optimiser.kind=adamw"])
    right = load_config("preset:default", ["optimiser.kind=sgd", "training.epochs=3", "data.patch.0=32"])
    found = {difference.key: difference for difference in diff_configs(left, right)}
    assert found["optimiser.kind"] == Difference("optimiser.kind", "adamw", "sgd", "override", "override")
    assert found["training.epochs"].right == 3
    assert found["training.epochs"].right_origin == "override"
    assert found["optimiser.betas"].right is ABSENT
    assert found["optimiser.betas"].right_origin is None
    assert found["optimiser.momentum"].left is ABSENT
    assert found["data.patch"].right == [32, 64, 64]
    assert found["data.patch"].right_origin == "override"


def test_models_that_were_not_loaded_are_compared_too() -> None:
    assert diff_configs(Root(), Root(name="y")) == [Difference("name", "x", "y", None, None)]
    assert diff_configs(Root(), Root()) == []


def test_a_list_of_groups_is_compared_item_by_item() -> None:
    found = diff_configs(Root(items=(Inner(), Inner())), Root(items=(Inner(), Inner(number=3.0))))
    assert [difference.key for difference in found] == ["items.1.number"]
    assert {difference.key for difference in diff_configs(Root(), Root(items=(Inner(),)))} == {
        "items",
        "items.0.number",
        "items.0.any",
    }


def test_a_difference_is_what_changes_the_hash() -> None:
    pairs = [(True, 1), (False, 0), ("1", 1), ({}, []), ({"a.b": 1}, {"a": {"b": 1}}), (None, "null")]
    for left, right in pairs:
        assert diff_configs(Inner(any=left), Inner(any=right)) != []
        assert config_hash(Inner(any=left)) != config_hash(Inner(any=right))
    assert diff_configs(Inner(any=1), Inner(any=1.0)) == []
    assert diff_configs(Inner(any=float("nan")), Inner(any=float("nan"))) == []
