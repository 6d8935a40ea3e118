"""Every mistake at once, each with its line, its key, what was expected, what was found and what to do."""

from pathlib import Path

import pytest

from volumen.config.load import load_config
from volumen.config.problems import ConfigError
from volumen.errors import UserError

GOOD = """\
data: {dataset: prepared}
loss: {terms: {soft_dice: {}}}
"""


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return [str(problem).replace(f"{tmp_path.resolve()}/", "") for problem in caught.value.problems]


def test_the_base_of_these_tests_is_good(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD)
    assert load_config(tmp_path / "c.yaml").config.data.dataset == "prepared"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "training:\n  epohcs: 3\n",
            "c.yaml:4: training.epohcs: unknown key 'epohcs'; did you mean training.epochs?",
        ),
        ("epochs: 3\n", "c.yaml:3: epochs: unknown key 'epochs'; did you mean training.epochs?"),
        (
            "gradient_clip: 3\n",
            "c.yaml:3: gradient_clip: unknown key 'gradient_clip'; did you mean training.gradient_clip?",
        ),
        (
            "Gradient-Clip: 3\n",
            "c.yaml:3: Gradient-Clip: unknown key 'Gradient-Clip'; did you mean training.gradient_clip?",
        ),
        ("focal_gamma: 3\n", "unknown key 'focal_gamma'; did you mean loss.terms.focal.gamma?"),
        (
            "dice_weight: 3\n",
            "unknown key 'dice_weight'; did you mean loss.terms.cldice.weight or loss.terms.soft_dice.weight?",
        ),
        ("background_weight: 3\n", "unknown key 'background_weight'; did you mean loss.class_weights.background or "),
        ("grad_clip_norm: 3\n", "unknown key 'grad_clip_norm'; did you mean training.gradient_clip"),
        ("foreground_weight: 3\n", "unknown key 'foreground_weight'; remove it"),
        ("swa_start_epoch: 3\n", "unknown key 'swa_start_epoch'; did you mean training.swa.start_epoch?"),
        ("zzzzzz: 3\n", "c.yaml:3: zzzzzz: unknown key 'zzzzzz'; remove it (keys here: name, seed, "),
        (
            "optimiser: {momentum: 0.9}\n",
            "c.yaml:3: optimiser.momentum: unknown key 'momentum'; it belongs to kind sgd and this is adamw;",
        ),
        (
            "model: {kind: resent}\n",
            "c.yaml:3: model: unknown kind 'resent'; did you mean resenc? kinds: unet, resenc, monai",
        ),
        ("model: {kind: 3}\n", "c.yaml:3: model: unknown kind 3; kinds: unet, resenc, monai"),
        (
            "model: unet\n",
            "c.yaml:3: model: expected mapping with kind unet | resenc | monai, got text 'unet'; write kind:",
        ),
        (
            "model:\n",
            "c.yaml:3: model: expected mapping with kind unet | resenc | monai, got nothing (null); write kind:",
        ),
        (
            "model: {kind: monai}\n",
            "c.yaml:3: model.name: required and missing; expected text (Class in monai.networks.nets, such",
        ),
        ("model: {kind: resenc, size: XL}\n", "c.yaml:3: model.size: expected S | M, got text 'XL'"),
        (
            "model: {kind: resenc, filters: 8}\n",
            "c.yaml:3: model.filters: unknown key 'filters'; it belongs to kind unet",
        ),
        (
            "training: {epochs: 0}\n",
            "c.yaml:3: training.epochs: expected integer >= 1 and <= 1000000, got 0; the default is 200",
        ),
        ("training: {epochs: 2.5}\n", "c.yaml:3: training.epochs: expected integer >= 1 and <= 1000000, got 2.5"),
        ("training: {epochs: true}\n", "c.yaml:3: training.epochs: expected integer >= 1 and <= 1000000, got true"),
        (
            'training: {epochs: "3"}\n',
            "c.yaml:3: training.epochs: expected integer >= 1 and <= 1000000, got text '3'; remove the quotes",
        ),
        (
            "training: {gradient_clip: -1}\n",
            "c.yaml:3: training.gradient_clip: expected number > 0.0 and <= 1000000000000.0 or null, got -1",
        ),
        ("training: {selection_metric: dise}\n", "got text 'dise'; did you mean dice?"),
        ("training:\n", "c.yaml:3: training: expected mapping, got nothing (null); write keys inside it: epochs, "),
        (
            "training: {swa: 3}\n",
            "c.yaml:3: training.swa: expected mapping or null, got 3; write keys inside it: start_epoch",
        ),
        ("name: no/slash\n", "c.yaml:3: name: expected text of length >= 1 and matching "),
        (
            "optimiser: {learning_rate: .nan}\n",
            "c.yaml:3: optimiser.learning_rate: expected number > 0.0 and <= 1000.0, got nan",
        ),
        (
            "inference: {tile: [64, 64]}\n",
            "c.yaml:3: inference.tile: expected list of 3: integer >= 8 and <= 2048 or null, got a list of 2, [64, 64]",
        ),
        (
            "inference: {tile: [64, 64, x]}\n",
            "c.yaml:3: inference.tile.2: expected integer >= 8 and <= 2048, got text 'x'",
        ),
        ("optimiser: {betas: [0.9, 2]}\n", "c.yaml:3: optimiser.betas.1: expected number >= 0.0 and < 1.0, got 2"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, GOOD + text)
    assert len(found) == 1
    assert expected in found[0]


def test_a_required_section_that_is_missing_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, "loss: {terms: {soft_dice: {}}}\n")
    assert found == ["c.yaml: data: required and missing; expected mapping; add the key"]


def test_the_words_of_the_schemas_own_checks_stand_at_their_section(tmp_path: Path) -> None:
    found = problems(tmp_path, "data: {dataset: d}\nloss:\n  terms:\n    focal: {weight: 0.0}\n")
    assert len(found) == 1
    assert found[0].startswith("c.yaml:2: loss: the loss has no term of positive weight")
    found = problems(tmp_path, GOOD + "inference: {tile: [65, 64, 64]}\n")
    assert found[0].startswith("c.yaml: inference.tile [65, 64, 64] must be a multiple of 16")


def test_a_key_inside_a_list_is_found(tmp_path: Path) -> None:
    text = (
        "data: {dataset: d}\nloss:\n  terms: {soft_dice: {}}\n"
        "  curriculum:\n    - name: a\n      weights: {soft_dice: -1}\n"
    )
    assert problems(tmp_path, text) == [
        "c.yaml:5: loss.curriculum.0.start_epoch: required and missing; expected integer >= 0 and <= 1000000; add the "
        "key",
        "c.yaml:6: loss.curriculum.0.weights.soft_dice: expected number >= 0.0 and <= 1000000.0, got -1",
    ]


def test_all_mistakes_of_files_and_overrides_come_at_once_in_reading_order(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("training: {epochs: -1}\nseed: 1\nseed: 2\n")
    text = "base: base.yaml\n" + GOOD + "model: {kind: q}\n" + "\n" * 10 + "device: gpu\n"
    found = problems(tmp_path, text, "no equals sign", "data.batch=0", "sede=1")
    assert [line.split(": ")[:2] for line in found] == [
        ["base.yaml:1", "training.epochs"],
        ["base.yaml:3", "seed"],
        ["c.yaml:4", "model"],
        ["c.yaml:15", "device"],
        ["override", "cannot read 'no equals sign'"],
        ["override", "data.batch"],
        ["override", "sede"],
    ]


def test_a_file_that_cannot_be_read_is_not_reported_as_missing_keys(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("data: [\n")
    found = problems(tmp_path, "base: base.yaml\nseed: x\n")
    assert len(found) == 1
    assert "not valid YAML" in found[0]


def test_the_message_counts_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD + "sede: 1\nname: ''\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    first, *rest = str(caught.value).split("\n")
    assert first == f"{path} has 2 problems:"
    assert len(rest) == 2
    assert all(line.startswith("  ") for line in rest)


def test_files_are_named_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text(GOOD + "sede: 1\n")
    with pytest.raises(
        ConfigError, match=r"\n  sub/c\.yaml:3: sede: unknown key 'sede'; did you mean seed or schedule\?"
    ):
        load_config("sub/c.yaml")


def test_a_lone_surrogate_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text('name: "\\ud800"\n' + GOOD)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "c.yaml")


def test_a_word_of_the_right_key_is_enough(tmp_path: Path) -> None:
    found = problems(tmp_path, "data: {dataset: d}\nloss:\n  terms:\n    dice: {}\n")
    assert "did you mean loss.terms.cldice or loss.terms.soft_dice?" in found[0]
