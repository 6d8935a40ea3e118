"""Layers and overrides: what wins, what is dropped, and that each value knows where it came from."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from volumen.config import inheritance
from volumen.config.inheritance import preset_names
from volumen.config.load import LoadedConfig, load_config, load_model
from volumen.config.optimisation import PlanIntervention, Tournament
from volumen.config.problems import ConfigError


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Sgd(Section):
    kind: Literal["sgd"] = "sgd"
    rate: float = 0.1
    momentum: float = 0.9


class Adam(Section):
    kind: Literal["adam"] = "adam"
    rate: float = 0.001
    betas: tuple[float, float] = (0.9, 0.999)


class Network(Section):
    kind: Literal["network"] = "network"
    inner: Annotated[Sgd | Adam, Field(discriminator="kind")] = Adam(rate=7.0)
    width: int = 8


class Linear(Section):
    kind: Literal["linear"] = "linear"


class Term(Section):
    weight: float = 1.0
    options: dict[str, int] = {}


class Training(Section):
    epochs: int = 200
    pause: int | None = 3
    options: dict[str, int] = {"a": 1}


class Root(Section):
    name: str = "root"
    optimiser: Annotated[Sgd | Adam, Field(discriminator="kind")] = Sgd(rate=0.5)
    model: Annotated[Network | Linear, Field(discriminator="kind")] = Linear()
    training: Training = Training(epochs=5, options={"b": 2})
    terms: tuple[Term, ...] = (Term(weight=2.0), Term())
    sizes: tuple[int, ...] = (1, 2)
    labels: dict[str, int] = {}
    extra: Training | None = None


def load(tmp_path: Path, text: str = "", *overrides: str, **others: str) -> LoadedConfig[Root]:
    (tmp_path / "main.yaml").write_text(text)
    for name, content in others.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    return load_model(Root, tmp_path / "main.yaml", overrides)


def problems(tmp_path: Path, text: str = "", *overrides: str, **others: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides, **others)
    folder = f"{tmp_path.resolve()}/"
    return [str(problem).replace(folder, "") for problem in caught.value.problems]


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.config == Root()
    assert set(loaded.origins.values()) == {"default"}


def test_numbers_are_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, "optimiser: {rate: 1e-3}").config.optimiser.rate == 0.001
    assert load(tmp_path, "optimiser: {rate: 1}").config.optimiser.rate == 1.0
    assert load(tmp_path, "", "optimiser.rate=1e-3").config.optimiser.rate == 0.001


# Inheritance


def test_the_file_wins_over_its_base_and_the_later_base_over_the_earlier(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "base: [one.yaml, two.yaml]\ntraining:\n  epochs: 3\n",
        one="training: {epochs: 1, pause: 1}\nname: one\nsizes: [1, 1, 1]\n",
        two="training: {epochs: 2}\nname: two\nsizes: [2]\n",
    )
    assert loaded.config.training.epochs == 3
    assert loaded.config.training.pause == 1
    assert loaded.config.name == "two"
    assert loaded.config.sizes == (2,)  # lists are replaced
    short = {key: origin.rpartition("/")[2] for key, origin in loaded.origins.items()}
    assert short["training.epochs"] == "main.yaml:3"
    assert short["training.pause"] == "one.yaml:1"
    assert short["name"] == "two.yaml:2"
    assert short["optimiser.momentum"] == "default"
    assert [Path(source).name for source in loaded.sources] == ["one.yaml", "two.yaml", "main.yaml"]


def test_a_base_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "middle.yaml").write_text("base: ../ground.yaml\n")
    assert load(tmp_path, "base: deep/middle.yaml", ground="name: ground").config.name == "ground"


def test_a_base_of_two_bases_lies_below_both(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "base: [one.yaml, two.yaml]",
        one="base: ground.yaml\nname: one",
        two="base: ground.yaml\nsizes: [2]",
        ground="name: ground\nsizes: [0]",
    )
    assert (loaded.config.name, loaded.config.sizes) == ("one", (2,))
    assert len(loaded.sources) == 4


def test_a_circle_of_bases_is_named_whole(tmp_path: Path) -> None:
    found = problems(tmp_path, "base: one.yaml", one="base: two.yaml", two="\nbase: one.yaml")
    assert len(found) == 1
    assert found[0].startswith("two.yaml:2: base: the files are based on each other (one.yaml -> two.yaml -> one.yaml)")
    assert problems(tmp_path, "base: main.yaml")[0].startswith("main.yaml:1: base: the files are based on each other")


def test_a_base_that_is_not_there_is_named_at_its_line(tmp_path: Path) -> None:
    found = problems(tmp_path, "name: x\nbase:\n  - gone.yaml\n  - preset:defalt\n  - 3\n")
    assert len(found) == 3
    assert found[0].startswith("main.yaml:3: base: there is no file ")
    assert found[1].startswith("main.yaml:4: base: there is no preset 'defalt'; did you mean preset:default?")
    assert found[2] == "main.yaml:5: base: expected a file, `preset:NAME` or a list of these, got 3"


def test_presets_are_found_by_name_and_may_build_on_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "ground.yaml").write_text("name: ground\nsizes: [9]\n")
    (folder / "small.yaml").write_text("base: preset:ground\nname: small\n")
    monkeypatch.setattr(inheritance, "PRESETS", folder)
    assert preset_names() == ["ground", "small"]
    loaded = load_model(Root, "preset:small")
    assert (loaded.config.name, loaded.config.sizes) == ("small", (9,))
    assert loaded.origins["sizes"] == "preset:ground:2"
    assert load(tmp_path, "base: preset:small").config.name == "small"


@pytest.mark.parametrize(
    ("source", "fragment"),
    [
        ("preset:../secret", "there is no preset"),
        ("nowhere.yaml", "there is no file nowhere.yaml"),
        ("default", "did you mean preset:default?"),
    ],
)
def test_a_source_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="has 1 problem") as caught:
        load_config(source)
    assert fragment in str(caught.value)


def test_a_folder_is_answered_with_the_file_inside_it(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"is a folder; give .*config\.yaml"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [(b"- 1\n", "expected `key: value` lines"), (b"a: \xff", "not UTF-8"), (b"text", "expected `key: value` lines")],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, fragment: str) -> None:
    (tmp_path / "main.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_model(Root, tmp_path / "main.yaml")
    assert fragment in str(caught.value)


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert load_model(Root, tmp_path / "main.yaml").config.name == "x"


# Unions by kind


def test_another_kind_drops_the_settings_of_the_old_one(tmp_path: Path) -> None:
    sgd = "optimiser: {kind: sgd, rate: 0.7, momentum: 0.3}"
    assert load(tmp_path, "base: one.yaml\noptimiser: {kind: adam}", one=sgd).config.optimiser == Adam()
    assert load(tmp_path, sgd, "optimiser.kind=adam", "optimiser.rate=2.0").config.optimiser == Adam(rate=2.0)
    assert load(tmp_path, sgd, "optimiser.rate=2.0", "optimiser.kind=adam").config.optimiser == Adam(rate=2.0)


def test_the_same_kind_keeps_them(tmp_path: Path) -> None:
    sgd = "optimiser: {kind: sgd, rate: 0.7, momentum: 0.3}"
    got = load(tmp_path, "base: one.yaml\noptimiser: {kind: sgd, rate: 1.0}", one=sgd).config.optimiser
    assert got == Sgd(rate=1.0, momentum=0.3)


def test_a_union_without_kind_means_the_default_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, "optimiser: {momentum: 0.1}")
    assert loaded.config.optimiser == Sgd(rate=0.5, momentum=0.1)
    assert loaded.origins["optimiser.kind"] == "default"
    assert loaded.origins["optimiser.rate"] == "default"
    assert load(tmp_path, "base: one.yaml\noptimiser: {kind: adam}", one="optimiser: {momentum: 0.1}").config == Root(
        optimiser=Adam()
    )


def test_a_union_inside_the_kind_that_was_chosen(tmp_path: Path) -> None:
    loaded = load(tmp_path, "model: {kind: network, inner: {betas: [0.5, 0.6]}}")
    assert loaded.config.model == Network(inner=Adam(rate=7.0, betas=(0.5, 0.6)))
    loaded = load(tmp_path, "model: {kind: network}", "model.inner.kind=sgd")
    assert loaded.config.model == Network(inner=Sgd())


def test_naming_one_key_of_a_section_keeps_what_its_default_sets(tmp_path: Path) -> None:
    training = load(tmp_path, "training: {pause: 1}").config.training
    assert training == Training(epochs=5, pause=1, options={"b": 2})
    assert load(tmp_path, "training: {options: {c: 3}}").config.training.options == {"b": 2, "c": 3}


def test_a_section_that_is_off_is_switched_on_by_one_key(tmp_path: Path) -> None:
    assert load(tmp_path, "", "extra.epochs=1").config.extra == Training(epochs=1)
    assert load(tmp_path, "extra: {epochs: 1}", "extra=null").config.extra is None


# Overrides


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("name=x", "name", "x"),
        ("name='3'", "name", "3"),
        ("name=a=b", "name", "a=b"),
        ("training.epochs=7", "training.epochs", 7),
        (" training . epochs = 7 ", "training.epochs", 7),
        ("training.pause=null", "training.pause", None),
        ("sizes=[4, 5]", "sizes", (4, 5)),
        ("sizes=[]", "sizes", ()),
        ("sizes.1=9", "sizes", (1, 9)),
        ("terms.0.weight=9.0", "terms.0.weight", 9.0),
        ("labels.2=3", "labels.2", 3),
        ("training={epochs: 1}", "training.epochs", 1),
    ],
)
def test_an_override_sets_one_value(tmp_path: Path, override: str, key: str, expected: object) -> None:
    loaded = load(tmp_path, "", override)
    got: Any = loaded.config
    for part in key.split("."):
        got = got[int(part)] if isinstance(got, tuple) else got[part] if isinstance(got, dict) else getattr(got, part)
    assert got == expected
    assert loaded.origins[key if key != "sizes" or "1" not in override else "sizes"] in ("override", "default")


def test_an_override_knows_its_origin_and_leaves_the_others(tmp_path: Path) -> None:
    loaded = load(tmp_path, "training:\n  epochs: 1\n  pause: 2\n", "training.epochs=7")
    assert loaded.origins["training.epochs"] == "override"
    assert loaded.origins["training.pause"].endswith("main.yaml:3")
    assert loaded.origins["name"] == "default"


def test_an_index_changes_one_item_of_the_file_the_default_or_an_override(tmp_path: Path) -> None:
    loaded = load(tmp_path, "terms:\n  - {weight: 3.0}\n  - {weight: 4.0}\n", "terms.1.weight=5.0")
    assert [term.weight for term in loaded.config.terms] == [3.0, 5.0]
    assert loaded.origins["terms.1.weight"] == "override"
    assert loaded.origins["terms.0.weight"].endswith("main.yaml:2")
    assert [term.weight for term in load(tmp_path, "", "terms.1.weight=5.0").config.terms] == [2.0, 5.0]
    assert load(tmp_path, "", "terms=[{weight: 1.5}]", "terms.0.weight=5.0").config.terms == (Term(weight=5.0),)


def test_the_later_override_of_a_key_wins(tmp_path: Path) -> None:
    assert load(tmp_path, "", "name=a", "name=b").config.name == "b"
    loaded = load(tmp_path, "", "training={epochs: 1, pause: 8}", "training.epochs=2")
    assert (loaded.config.training.epochs, loaded.config.training.pause) == (2, 8)


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("training.epochs", "there is no `=`"),
        ("=3", "the key is not words joined by dots"),
        ("a..b=3", "the key is not words joined by dots"),
        (".a=3", "the key is not words joined by dots"),
        ("two words=3", "the key is not words joined by dots"),
        ("name=", "name=null for none"),
        ("name=[1", "not valid YAML"),
        ("labels={a: 1, a: 2}", "written twice"),
        ("base=other.yaml", "`base` is not a setting"),
        ("training.epohcs=3", "did you mean training.epochs?"),
        ("sizes.7=1", "there is no item 7 in this list (it has 2 items, 0 to 1)"),
        ("training.epochs.x=1", "expected integer, got a mapping {x: 1}"),
        ("training.epochs='3'", "expected integer, got text '3'; remove the quotes"),
    ],
)
def test_a_wrong_override_says_what_to_write(tmp_path: Path, override: str, fragment: str) -> None:
    found = problems(tmp_path, "", override)
    assert len(found) == 1
    assert found[0].startswith("override: ")
    assert fragment in found[0]


def test_provenance_is_not_a_setting(tmp_path: Path) -> None:
    assert load(tmp_path, "provenance: {hash: abc}\nname: x").config.name == "x"
    assert "is not a setting" in problems(tmp_path, "", "provenance.hash=1")[0]


class Plan(Section):
    kind: Literal["plan"] = "plan"
    plan: int = 1
    steps: int = 1


class Unplanned(Section):
    kind: Literal["unplanned"] = "unplanned"


class Chooser(Section):
    choice: Annotated[Plan | Unplanned, Field(discriminator="kind")]


def test_a_key_with_the_name_of_its_kind_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("choice:\n  kind: plan\n  plan: 2\n  steps: x\n")
    with pytest.raises(ConfigError) as caught:
        load_model(Chooser, path)
    (problem,) = caught.value.problems
    assert problem.key == "choice.steps"
    assert problem.origin.endswith("c.yaml:4")


def test_an_intervention_without_a_kind_is_the_plans():
    """As in configurations that are older than the choice."""
    base = ["data.dataset=nowhere"]
    written = load_config("preset:default", [*base, "training.intervention={formula: standard}"]).config
    assert written.training.intervention == PlanIntervention(formula="standard")
    assert load_config("preset:plan", base).config.training.intervention == PlanIntervention(formula="standard")
    other = load_config("preset:plan", [*base, "training.intervention={kind: tournament, steps: 4}"]).config
    assert other.training.intervention == Tournament(steps=4)
