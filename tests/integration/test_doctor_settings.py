"""Settings that act are left in peace, those that do not are named, and no key of the schema is dead."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from pydantic import BaseModel

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.config.loss import ClassWeights, Focal
from volumen.config.optimisation import PlanIntervention
from volumen.config.schema import Config
from volumen.doctor.audit import Context, Parts, open_context, run_audit
from volumen.doctor.findings import Severity
from volumen.doctor.settings.check import check_settings, examine_settings
from volumen.doctor.settings.effective import effective_weights
from volumen.doctor.settings.reads import recorded
from volumen.losses import TERMS, CompositeLoss, LossBreakdown
from volumen.monitors.sign import Sign
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runtime import Precision
from volumen.training.loop import run_training
from volumen.training.objective import build_objective, weights_at
from volumen.training.schedule import LearningRate
from volumen.training.state import fresh_state
from volumen.training.watch import Watch, plan_scale

CPU, FP32 = torch.device("cpu"), Precision("fp32", "cpu")
SMALL = ("data.patch=[32, 32, 32]",)
HEALTHY: dict[str, tuple[str, ...]] = {
    "untouched": (),
    "sgd on a plateau schedule": (
        "optimiser={kind: sgd, learning_rate: 0.02, weight_decay: 1e-4, momentum: 0.9, nesterov: false}",
        "schedule={kind: plateau, warmup_epochs: 2, patience: 4, factor: 0.3, threshold: 1e-3, minimum_rate: 1e-5}",
        "training.average=null", "training.early_stopping={patience: 10, minimum_delta: 0.001}",
        "training.degradation={rollback: true, catastrophic_share: 0.3}", "precision=fp32",
    ),
    "warm restarts, averaging and noise": (
        "schedule={kind: cosine_warm_restarts, warmup_epochs: 3, period_epochs: 8, period_factor: 3, "
        "minimum_rate: 1e-5}",
        "training.epochs=60", "training.swa={start_epoch: 35, learning_rate: 1e-4, update_every_epochs: 2}",
        "training.weight_noise={start_epoch: 20, every_epochs: 6, std: 0.002, decay: 0.8, layers: [encoder*]}",
        "training.average.decay=0.99", "optimiser={betas: [0.95, 0.99], eps: 1e-6, weight_decay: 0.02}",
    ),
    "one cycle with the plan's intervention": (
        "schedule={kind: one_cycle, rising_share: 0.2, start_divisor: 10, end_divisor: 1e3}",
        "training.intervention={formula: aggressive, reference_gradient_norm: 0.5, maximum_gradient_factor: 20, "
        "maximum_scale: 60, maximum_interventions: 2, enough_improvement: 0.4}",
        "training.degradation.epochs=2", "training.gradient_clip=12.0", "training.selection_metric=surface_dice",
    ),
    "a tournament": (
        "training.intervention={kind: tournament, candidates: 3, steps: 40, maximum_share: 0.5, cool_off_epochs: 4, "
        "minimum_sigma: 0.01}",
        "training.degradation.catastrophic_share=0.3", "training.keep_going=true",
    ),
    "validation on crops": (
        "training.validation={kind: crops, per_volume: 3, crop: [40, 40, 40], fresh: true}",
    ),
    "a constant rate with warm-up": (
        "schedule={kind: constant, warmup_epochs: 5}", "training.epochs=30", "training.validate_every_epochs=2",
        "training.gradient_clip=null", "seed=3", "data.batch=4",
    ),
    "a curriculum with a focal loss": (
        "loss.terms.cross_entropy=null", "loss.terms.focal={alpha: 0.6, gamma: 1.5}",
        "loss.terms.soft_dice.smooth=5.0", "training.epochs=40",
        "loss.curriculum=[{name: first, start_epoch: 2, weights: {soft_dice: 1.0}}, "
        "{name: second, start_epoch: 20, weights: {soft_dice: 0.5, focal: 2.0}}]",
    ),
    "every term, weighted by class": (
        "loss.terms={soft_dice: {weight: 0.5}, focal: {weight: 0.3}, cross_entropy: {weight: 0.4}, "
        "variance: {weight: 0.1}, entropy: {weight: 0.1, minimum: 0.2}, "
        "boundary: {weight: 0.2, full_within: 2.0, zero_from: 6.0}, cldice: {weight: 0.2, iterations: 4, smooth: 2.0}, "
        "connectivity: {weight: 0.3, radius: 2}, medial_recall: {weight: 0.2}, "
        "signed_distance: {weight: 0.3, reach: 4.0}, merge_penalty: {weight: 0.1, widest_gap: 6}}",
        "loss.class_weights={enabled: true, background: 1.2, surface: 0.9}",
    ),
    "the residual encoder": ("model={kind: resenc, size: S, deep_supervision: false}",),
    "one of monai's networks": (
        "model={kind: monai, name: SegResNet, arguments: {init_filters: 8}, divisor: 8}",
    ),
    "percentiles, mirrors and a clean mask": (
        "data.normalisation=percentile", "inference={tile: [48, 48, 48], overlap: 0.5, mirror: true, rotate: true}",
        "postprocessing.steps=[{kind: threshold, level: 0.45}, {kind: close, radius_voxels: [1, 1, 1]}, "
        "{kind: fill_holes, maximum_voxels: 200}, {kind: remove_small_components, minimum_voxels: 500}]",
    ),
    "every step of post-processing": (
        "postprocessing.steps=[{kind: sharpen_ridges, scale_voxels: 2.0, weight: 0.6}, "
        "{kind: hysteresis, low: 0.4, high: 0.6, connectivity: 6}, "
        "{kind: split_fused, levels: [0.5, 0.7], minimum_voxels: 50, maximum_folded_share: 0.1}, "
        "{kind: patch_sheets, maximum_hole_voxels: 200}, {kind: plug_pinholes}, "
        "{kind: remove_small_components, minimum_voxels: 20, connectivity: 6}, {kind: fill_holes, maximum_voxels: 50}, "
        "{kind: open, radius_voxels: [0, 1, 0]}, {kind: close, radius_voxels: [1, 1, 2]}, "
        "{kind: median, iterations: 2}, {kind: fill_cavities}]",
    ),
    "other patches": (
        "data.sampling={patches_per_epoch: 64, surface_share: 0.5, jitter_voxels: 8, minimum_valid_share: 0.2}",
        "data.augmentation={flips: false, rotations: all, affine_probability: 0.2, affine_degrees: 10, "
        "affine_scale: [0.9, 1.1], intensity_probability: 0.1, intensity_scale: [0.9, 1.1], intensity_shift: 0.1, "
        "gamma_probability: 0.05, gamma: [0.8, 1.2], noise_probability: 0.02, noise_std: [0.0, 0.1], "
        "blur_probability: 0.02, blur_sigma_voxels: [0.3, 0.6]}",
        "data.patch=[32, 48, 48]",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> str:
    raw = tmp_path_factory.mktemp("settings") / "raw"
    write_phantom_dataset(raw, volumes=4, shape=(48, 48, 48), scrolls=2, seed=5)
    out = raw.parent / "prepared"
    assert volumen(["prepare", str(raw), "--out", str(out)]) == 0
    assert volumen(["folds", str(out)]) == 0
    return str(out)


def context_of(prepared: str, *overrides: str) -> Context:
    return open_context(load_config("preset:default", [f"data.dataset={prepared}", *SMALL, *overrides]))


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_configurations_are_left_in_peace(prepared, name) -> None:
    context = context_of(prepared, *HEALTHY[name])
    assert [finding.title for finding in check_settings(context)] == []
    assert {one.verdict for one in examine_settings(context)} <= {"live", "excluded", "inert"}


STUCK = Sign("R4", "plateau", "warn", "nothing moves", 0, 1)
TINY = ("data.patch=[16, 16, 16]", "data.batch=1", "data.workers=0", "training.epochs=2")
RUNS: dict[str, tuple[str, ...]] = {
    "unet": (
        *HEALTHY["other patches"], *HEALTHY["every step of post-processing"], "data.batch=1", "model.filters=2",
        "model.depth=1", "data.sampling.patches_per_epoch=1", "inference={tile: [16, 16, 16]}",
        "training.validation={kind: crops, crop: [16, 16, 16], per_volume: 1}",
        *(f"data.augmentation.{name}_probability=1" for name in ("affine", "intensity", "gamma", "noise", "blur")),
        "training.swa={start_epoch: 1, learning_rate: 1e-4}", "training.weight_noise={start_epoch: 0}",
        "schedule={kind: constant}",
    ),
    "resenc": (
        *HEALTHY["every term, weighted by class"], "model={kind: resenc, size: S}",
        "optimiser={kind: sgd}", "schedule={kind: plateau}", "training.early_stopping={}", "training.intervention={}",
        "training.degradation.rollback=true", "training.validation={kind: crops, per_volume: 1}",
        "loss.curriculum=[{name: only, start_epoch: 1, weights: {soft_dice: 1.0}}]",
    ),
    "monai": (
        "model={kind: monai, name: SegResNet, "
        "arguments: {init_filters: 8, blocks_down: [1, 1], blocks_up: [1]}, divisor: 2}",
        "schedule={kind: cosine_warm_restarts}", "postprocessing.steps=[{kind: hysteresis}]",
    ),
    "one cycle": (
        "model={filters: 2, depth: 1}", "schedule={kind: one_cycle}",
        "training.intervention={kind: tournament, steps: 1, maximum_share: 10}", "training.validate_every_epochs=1",
    ),
    "polynomial": ("model={filters: 2, depth: 1}", "schedule={kind: polynomial}"),
}  # fmt: skip
"""Trainings that between them have every section of the schema."""
NOT_OF_A_TRAINING = {
    "Config.name": "names the run",
    "Inference.engine": "read by `volumen predict`, tests/unit/test_inference_engines.py",
    "Inference.empty": "read by `volumen predict`, tests/unit/test_inference_files.py",
}


def schema_keys(model: type[BaseModel]) -> Iterator[str]:
    """Every value of the schema as Section.name, but for kinds, which are classes, and what an experiment is for."""
    for name, field in model.model_fields.items():
        inner = list(sections_in(field.annotation))
        if not inner and name != "kind":
            yield f"{model.__name__}.{name}"
        elif name != "experiment":
            for one in inner:
                yield from schema_keys(one)


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


def as_schema_key(config: Config, key: str) -> str:
    """A configuration's dotted key in the form of `schema_keys`."""
    node: Any = config
    *path, name = key.split(".")
    for part in path:
        node = node[int(part)] if isinstance(node, tuple) else getattr(node, part)
    return f"{type(node).__name__}.{name}"


def events_of_a_long_run(config: Config, state: Any) -> None:
    """A loss that stays, worsens and is intervened in, through the run's own rules."""
    watch, rate = Watch(), LearningRate(state.optimiser, 0.1, config.schedule, config.training.swa)
    for epoch in range(20):
        watch.after_validation(config.training, epoch, 1.0 + 0.1 * epoch, 0.5)
        rate.after_validation(1.0 + 0.1 * epoch)
        rate.rate_at(float(epoch), 20.0)
    if isinstance(config.training.intervention, PlanIntervention):
        plan_scale(config.training.intervention, 1, 0.1)


def test_no_key_of_the_schema_is_dead(prepared, tmp_path) -> None:
    """Each is read by a training, the real one, or left out for a reason that is written down."""
    wanted = set(schema_keys(Config))
    assert {"Sgd.momentum", "Entropy.minimum", "Phase.weights", "ClassWeights.surface"} <= wanted
    read = set()
    for name, overrides in RUNS.items():
        config, reads = recorded(context_of(prepared, *TINY, "data.sampling.patches_per_epoch=1", *overrides).config)
        run_training(config, tmp_path / name, SilentDisplay(), signs_of=lambda session: (STUCK,))
        events_of_a_long_run(config, fresh_state(config, CPU, FP32, steps_per_epoch=1, prior=0.1))
        read |= {as_schema_key(config, key) for key in reads.keys}
    assert wanted - read == set(NOT_OF_A_TRAINING)


# Builders with a mistake each, of the kinds that the plan's code had.


def without_class_weights(loss, epoch):
    return build_objective(loss.model_copy(update={"class_weights": ClassWeights()}), epoch)


def with_focal_of_its_own(loss, epoch):
    terms = loss.terms.model_copy(update={"focal": Focal(weight=loss.terms.focal.weight)})
    return build_objective(loss.model_copy(update={"terms": terms}), epoch)


def with_hidden_variance(loss, epoch):
    made = build_objective(loss, epoch)
    return CompositeLoss({**made.terms, "variance": (0.25, TERMS["variance"]())})


class _Secretive(CompositeLoss):
    def __call__(self, logits, target, valid, *, precomputed=None) -> LossBreakdown:
        made = super().__call__(logits, target, valid, precomputed=precomputed)
        return replace(made, total=made.total + 0.05 * logits.square().mean())


def with_something_unreported(loss, epoch):
    return _Secretive(build_objective(loss, epoch).terms)


def without_curriculum(loss, epoch):
    return build_objective(loss, 0)


def without_weight_decay(config, *arguments, **options):
    optimiser = config.optimiser.model_copy(update={"weight_decay": 0.0})
    return fresh_state(config.model_copy(update={"optimiser": optimiser}), *arguments, **options)


def with_momentum_of_its_own(config, *arguments, **options):
    optimiser = config.optimiser.model_copy(update={"momentum": 0.9})
    return fresh_state(config.model_copy(update={"optimiser": optimiser}), *arguments, **options)


def without_its_average(config, *arguments, **options):
    training = config.training.model_copy(update={"average": None})
    return fresh_state(config.model_copy(update={"training": training}), *arguments, **options)


CLASSES = ("loss.class_weights={enabled: true, background: 1.0, surface: 1.5}",)
FOCAL = ("loss.terms.focal={weight: 0.5, alpha: 0.5, gamma: 3.0}",)
VARIANCE = ("loss.terms.variance={weight: 0.01}",)
SGD = ("optimiser={kind: sgd, learning_rate: 0.01, weight_decay: 1e-4, momentum: 0.95}",)
PHASES = (
    "loss.curriculum=[{name: a, start_epoch: 0, weights: {soft_dice: 1.0}}, "
    "{name: b, start_epoch: 50, weights: {soft_dice: 1.0, cross_entropy: 0.5}}]",
)


@pytest.mark.parametrize(
    ("parts", "overrides", "keys"),
    [
        (
            Parts(objective=without_class_weights), CLASSES,
            {"loss.class_weights.enabled", "loss.class_weights.background", "loss.class_weights.surface"},
        ),
        (Parts(objective=with_focal_of_its_own), FOCAL, {"loss.terms.focal.alpha", "loss.terms.focal.gamma"}),
        (Parts(objective=with_hidden_variance), VARIANCE, {"loss.terms.variance.weight"}),
        (Parts(objective=with_hidden_variance), (), {"loss.terms.variance.weight"}),
        (Parts(objective=with_something_unreported), (), {"loss.terms"}),
        (
            Parts(objective=without_curriculum), PHASES,
            {"loss.terms.cross_entropy.weight"},
        ),
        (Parts(state=without_weight_decay), ("optimiser.weight_decay=0.05",), {"optimiser.weight_decay"}),
        (Parts(state=without_weight_decay), SGD, {"optimiser.weight_decay"}),
        (Parts(state=with_momentum_of_its_own), SGD, {"optimiser.momentum"}),
        (Parts(state=without_its_average), ("training.average.decay=0.99",), {"training.average.decay"}),
    ],
    ids=[
        "class weights", "focal", "hidden variance for a configured one", "hidden variance", "unreported",
        "curriculum", "weight decay of adamw", "weight decay of sgd", "momentum", "average",
    ],
)  # fmt: skip
def test_what_the_runs_own_code_ignores_is_named(prepared, parts, overrides, keys) -> None:
    healthy = context_of(prepared, *overrides)
    found = list(check_settings(replace(healthy, parts=parts)))
    stops = [finding for finding in found if finding.severity == Severity.stop]
    assert {finding.where.split(" ")[0] for finding in stops} == keys
    assert {finding.code for finding in stops} == {"P6"}
    assert [finding for finding in check_settings(healthy) if finding.severity != Severity.note] == []


def test_the_audit_names_it_first(prepared) -> None:
    context = context_of(prepared, *CLASSES)
    found = run_audit(replace(context, parts=Parts(objective=without_class_weights)), only=("P3", "P6")).findings
    assert (found[0].code, found[0].severity) == ("P6", Severity.stop)


def test_hidden_weights_stand_beside_the_configured_ones(prepared) -> None:
    context = replace(context_of(prepared, *VARIANCE), parts=Parts(objective=with_hidden_variance))
    (finding,) = check_settings(context)
    assert "variance runs with 0.25 in place of 0.01" in finding.title
    assert "1 x soft_dice (configured 1)" in finding.evidence
    assert "0.25 x variance (configured 0.01)" in finding.evidence


@pytest.mark.parametrize("name", ["untouched", "every term, weighted by class", "a curriculum with a focal loss"])
def test_the_total_is_the_sum_of_weight_times_term(prepared, name) -> None:
    context = context_of(prepared, *HEALTHY[name])
    for phase, epoch in context.phases:
        configured = weights_at(context.config.loss, epoch)
        found = effective_weights(context.objectives[phase], configured, context.label_patches)
        assert {term.name for term in found} == {name for name, weight in configured.items() if weight > 0}
        for term in found:
            assert term.found == pytest.approx(term.configured, rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        (
            ("data.augmentation.noise_probability=0.0", "data.augmentation.noise_std=[0.0, 0.5]"),
            "data.augmentation.noise_std", "data.augmentation.noise_probability is 0",
        ),
        (
            ("data.augmentation={gamma: [1.0, 1.0], gamma_probability: 0.3}",),
            "data.augmentation.gamma_probability", "would change no patch",
        ),
        (
            ("data.augmentation.rotations=about_z", "data.patch=[32, 32, 48]"),
            "data.augmentation.rotations", "two equal sides",
        ),
        (
            ("training.degradation.catastrophic_share=0.3",),
            "training.degradation.catastrophic_share", "training.degradation.rollback is off",
        ),
        (("training.degradation.epochs=5",), "training.degradation.epochs", "training.intervention is null"),
        (
            ("training.degradation.epochs=5", "training.intervention={kind: tournament, steps: 9}"),
            "training.degradation.epochs", "training.intervention is tournament",
        ),
        (("data.patch=[48, 48, 48]", "data.sampling.jitter_voxels=4"), "data.sampling.jitter_voxels", "as large as"),
        (("data.sampling={surface_share: 0.0, jitter_voxels: 4}",), "data.sampling.jitter_voxels", "surface_share is"),
        (("training.weight_noise={layers: [head*]}",), "training.weight_noise.layers", "no parameter is head*"),
        (("training.weight_noise={start_epoch: 195, decay: 0.5}",), "training.weight_noise.decay", "once only"),
        (
            ("training.validation={kind: crops, crop: [64, 64, 64], per_volume: 3}",),
            "training.validation.per_volume", "as large as every held-out volume",
        ),
        (("training.swa={start_epoch: 0, learning_rate: 1e-4}", "schedule.power=2.0"), "schedule.power", "epoch 0 on"),
        (("loss.class_weights.enabled=true",), "loss.class_weights.enabled", "both class weights are 1"),
        (
            ("postprocessing.steps=[{kind: sharpen_ridges, weight: 0.0}, {kind: threshold}]",),
            "postprocessing.steps.0.kind", "its weight is 0",
        ),
        (
            ("postprocessing.steps=[{kind: threshold}, {kind: close, radius_voxels: [0, 0, 0]}]",),
            "postprocessing.steps.1.kind", "its radius is 0",
        ),
        (
            ("postprocessing.steps=[{kind: threshold}, {kind: fill_cavities}, {kind: fill_holes, maximum_voxels: 9}]",),
            "postprocessing.steps.2.maximum_voxels", "fill_cavities beside it",
        ),
    ],
)  # fmt: skip
def test_settings_that_something_else_switches_off_are_a_warning(prepared, overrides, key, reason) -> None:
    found = {one.where.split(" ")[0]: one for one in check_settings(context_of(prepared, *overrides))}
    assert {one.severity for one in found.values()} == {Severity.note if "as large as" in reason else Severity.warn}
    assert reason in found[key].evidence
    assert found[key].title == f"{key} changes nothing"


def test_a_default_that_is_written_out_is_no_finding(prepared) -> None:
    context = context_of(prepared, "training.degradation.catastrophic_share=0.15")
    assert list(check_settings(context)) == []
    (one,) = (one for one in examine_settings(context) if one.key == "training.degradation.catastrophic_share")
    assert (one.verdict, one.is_default) == ("inert", True)


def test_a_setting_that_can_never_act_is_named_once(prepared) -> None:
    noise = "training.weight_noise={start_epoch: 50, std: 0.01, every_epochs: 5}"
    found = list(check_settings(context_of(prepared, "training.epochs=50", noise, "loss.terms.focal={weight: 0.0}")))
    assert [(finding.severity, finding.where.split(" ")[0]) for finding in found] == [
        (Severity.warn, "training.weight_noise.start_epoch"),
        (Severity.note, "loss.terms.focal.weight"),
    ]


def test_the_command_prints_what_becomes_of_every_setting(prepared, capsys) -> None:
    chosen = ["--data", prepared, "-o", SMALL[0], "-o", "training.degradation.catastrophic_share=0.3"]
    assert volumen(["audit", "liveness", "preset:default", *chosen]) == 0
    text = capsys.readouterr().out
    assert "optimiser.learning_rate" in text
    assert "changes nothing" in text
    assert "values stand at their defaults" in text
    assert volumen(["audit", *chosen, "--json", "liveness", "preset:default"]) == 0  # options may stand anywhere
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["training.degradation.catastrophic_share"]["verdict"] == "inert"
    rate = rows["optimiser.learning_rate"]
    assert (rate["verdict"], rate["origin"]) == ("live", "preset:default:17")
    assert rows["name"]["verdict"] == "excluded"
