"""Settings that change something are left in peace; those that the run ignores are named, and no key of the schema is
dead.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest

from volumen.cli.main import run as volumen
from volumen.config import load_config
from volumen.config.dump import flat_values
from volumen.config.loss import ClassWeights, Focal
from volumen.config.places import Place, constants, place_of
from volumen.config.schema import Config
from volumen.doctor.audit import Context, Parts, run_audit
from volumen.doctor.audit.effective import effective_weights
from volumen.doctor.audit.inert import EXCLUDED, Examination, Verdict, examine, findings_of
from volumen.doctor.audit.liveness import check_liveness, examine_settings
from volumen.doctor.audit.setup import open_context
from volumen.doctor.findings import Severity
from volumen.doctor.rehearsal import Rehearsals
from volumen.losses import TERMS, CompositeLoss, LossBreakdown
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.training.objective import build_objective, weights_at
from volumen.training.state import fresh_state

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
    "validation on crops": (
        "training.validation={kind: crops, per_volume: 3, crop: [48, 48, 48], fresh: true}",
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
    raw = tmp_path_factory.mktemp("liveness") / "raw"
    write_phantom_dataset(raw, volumes=4, shape=(72, 72, 72), scrolls=2, seed=5)
    out = raw.parent / "prepared"
    assert volumen(["prepare", str(raw), "--out", str(out)]) == 0
    assert volumen(["folds", str(out)]) == 0
    return str(out)


def context_of(prepared: str, *overrides: str, preset: str = "default") -> Context:
    return open_context(load_config(f"preset:{preset}", [f"data.dataset={prepared}", *SMALL, *overrides]))


@pytest.fixture(scope="module")
def examined(prepared) -> dict[str, tuple[Context, Examination]]:
    """What every setting of each healthy configuration does."""
    contexts = {name: context_of(prepared, *overrides) for name, overrides in HEALTHY.items()}
    return {name: (context, examine_settings(context)) for name, context in contexts.items()}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_configurations_are_left_in_peace(examined, name) -> None:
    context, examination = examined[name]
    assert [finding.title for finding in findings_of(context, examination)] == []
    assert all(trial.read for trial in examination.trials if trial.verdict == Verdict.live)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_is_left_in_peace_whatever_its_seed(prepared, seed) -> None:
    assert list(check_liveness(context_of(prepared, f"seed={seed}"))) == []


def schema_keys(place: Place, above: str = "") -> Iterator[str]:
    """Every leaf of the schema; a `kind` chosen stands in brackets, as `optimiser[sgd].momentum`."""
    for section in place.sections:
        chosen = f"[{constants(section.node['properties']['kind'])[0]}]" if len(place.sections) > 1 else ""
        start = above + chosen + "." if above else ""
        for name, field in section.fields.items():
            listed = field.step(0)
            if listed is not None and listed.sections:
                yield from schema_keys(listed, f"{start}{name}{'' if listed.kinds else '.0'}")
            else:
                yield from schema_keys(field, f"{start}{name}")
    if not place.sections:
        yield above


def as_schema_key(config: Config, key: str) -> str:
    """A configuration's dotted key in the form of `schema_keys`."""
    section, *rest = key.split(".")
    kind = getattr(getattr(config, section), "kind", None)
    if section == "loss" and rest[0] == "curriculum":
        rest = [*rest[:1], "0", *rest[2:3]]
    if section == "postprocessing":
        rest = [f"steps[{config.postprocessing.steps[int(rest[1])].kind}]", rest[2]]
    if section == "model":
        rest = rest[:1]
    if section == "training" and rest[0] == "validation":
        rest[0] = f"validation[{config.training.validation.kind}]"
    return ".".join([f"{section}[{kind}]" if kind else section, *rest])


def is_excluded(key: str) -> bool:
    plain = key.replace("[", ".").split("]")[0].split(".")[0] + key.split("]")[-1] if "[" in key else key
    return any(fnmatchcase(plain, pattern) for pattern in EXCLUDED)


def test_no_key_of_the_schema_is_dead(examined) -> None:
    """Each is left out for a reason that is written down, or changes something in one of the healthy runs."""
    wanted = {key for key in schema_keys(place_of(Config)) if not is_excluded(key)}
    assert {"optimiser[sgd].momentum", "loss.terms.entropy.minimum", "loss.curriculum.0.weights"} <= wanted
    live: set[str] = set()
    for context, examination in examined.values():
        live |= {as_schema_key(context.config, one.key) for one in examination.trials if one.verdict == Verdict.live}
    for context, _ in examined.values():
        keys = {as_schema_key(context.config, key): key for key in flat_values(context.config)}
        left = [keys[key] for key in sorted(wanted - live) if key in keys]
        found = examine(context, keys=left).trials if left else ()
        live |= {as_schema_key(context.config, trial.key) for trial in found if trial.verdict == Verdict.live}
    only_one = {"postprocessing.steps[sharpen_ridges].kind"}  # no other step works on probabilities
    assert sorted(wanted - live) == sorted(only_one)
    switched_off = {key for key in live - wanted if any(other.startswith(f"{key}.") for other in wanted)}
    assert sorted(live - wanted - switched_off) == []


def test_rehearsals_agree_to_the_last_bit_and_leave_no_trace(prepared) -> None:
    import torch

    context = context_of(prepared)
    torch.manual_seed(7)
    before = torch.get_rng_state(), torch.get_num_threads()
    first = Rehearsals(context, context.parts).fingerprint(context.config)
    second = Rehearsals(context, context.parts).fingerprint(context.config)
    assert first.failures == {}
    assert first.parts == second.parts
    assert len(first.parts) >= 15
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_num_threads()


def test_what_is_remembered_equals_what_is_rehearsed_anew(prepared) -> None:
    context = context_of(prepared)
    rehearsals = Rehearsals(context, context.parts)
    rehearsals.fingerprint(context.config)
    for override in ("training.gradient_clip=0.01", "data.normalisation=none", "loss.terms.boundary={}", "seed=1"):
        varied = context_of(prepared, override).config
        assert rehearsals.fingerprint(varied).parts == rehearsals.fingerprint(varied, anew=True).parts


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
            {"loss.terms.cross_entropy.weight", "loss.curriculum.1.start_epoch"},
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
    found = list(check_liveness(replace(healthy, parts=parts)))
    stops = [finding for finding in found if finding.severity == Severity.stop]
    assert {finding.where.split(" ")[0] for finding in stops} == keys
    assert {finding.code for finding in stops} == {"P6"}
    assert [finding for finding in check_liveness(healthy) if finding.severity != Severity.note] == []


@pytest.mark.parametrize(
    ("parts", "overrides"),
    [
        (Parts(objective=without_class_weights), CLASSES),
        (Parts(objective=with_hidden_variance), VARIANCE),
        (Parts(state=without_weight_decay), ("optimiser.weight_decay=0.05",)),
    ],
)
def test_the_audit_names_it_first(prepared, parts, overrides) -> None:
    found = run_audit(replace(context_of(prepared, *overrides), parts=parts)).findings
    assert (found[0].code, found[0].severity) == ("P6", Severity.stop)


def test_hidden_weights_stand_beside_the_configured_ones(prepared) -> None:
    context = replace(context_of(prepared, *VARIANCE), parts=Parts(objective=with_hidden_variance))
    (finding,) = check_liveness(context)
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
    ("overrides", "key", "title"),
    [
        (
            ("data.augmentation.noise_probability=0.0", "data.augmentation.noise_std=[0.0, 0.5]"),
            "data.augmentation.noise_std", "is never read",
        ),
        (
            ("training.degradation.catastrophic_share=0.3",),
            "training.degradation.catastrophic_share", "changes nothing",
        ),
        (("data.patch=[80, 80, 80]", "data.sampling.jitter_voxels=4"), "data.sampling.jitter_voxels", "is never read"),
    ],
)  # fmt: skip
def test_settings_that_something_else_switches_off_are_a_warning(prepared, overrides, key, title) -> None:
    (finding,) = check_liveness(context_of(prepared, *overrides))
    assert (finding.severity, finding.where.split(" ")[0]) == (Severity.warn, key)
    assert title in finding.title


def test_a_default_that_is_written_out_is_no_finding(prepared) -> None:
    assert list(check_liveness(context_of(prepared, "training.degradation.catastrophic_share=0.15"))) == []


def test_a_setting_that_can_never_act_is_named_once(prepared) -> None:
    noise = "training.weight_noise={start_epoch: 50, std: 0.01, every_epochs: 5}"
    found = list(check_liveness(context_of(prepared, "training.epochs=50", noise, "loss.terms.focal={weight: 0.0}")))
    assert [(finding.severity, finding.where.split(" ")[0]) for finding in found] == [
        (Severity.warn, "training.weight_noise.start_epoch"),
        (Severity.note, "loss.terms.focal.weight"),
    ]


def test_a_run_that_cannot_do_a_step_is_stopped(prepared) -> None:
    (finding,) = check_liveness(context_of(prepared, "model.in_channels=2"))
    assert finding.severity == Severity.stop
    assert "the network takes [batch, 2, z, y, x], got [2, 1, 24, 24, 24]" in finding.evidence


def test_the_command_prints_what_every_setting_does(prepared, capsys) -> None:
    chosen = ["--data", prepared, "-o", SMALL[0], "-o", "training.degradation.catastrophic_share=0.3"]
    assert volumen(["audit", "liveness", "preset:default", *chosen]) == 0
    text = capsys.readouterr().out
    assert "optimiser.learning_rate" in text
    assert "changes nothing" in text
    assert "values stand at their defaults" in text
    assert volumen(["audit", "liveness", "preset:default", *chosen, "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["training.degradation.catastrophic_share"]["verdict"] == "inert"
    rate = rows["optimiser.learning_rate"]
    assert (rate["verdict"], rate["read"], rate["origin"]) == ("live", True, "preset:default:17")
    assert "learning rate" in rate["changes"]
    assert rows["data.dataset"]["verdict"] == "excluded"
