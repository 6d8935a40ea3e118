"""The pipeline: order, every step of the schema, and what it reports."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from volumen.config.fragments import load_postprocessing, postprocessing_names, postprocessing_override
from volumen.config.load import load_config
from volumen.config.postprocessing import Postprocessing, Step
from volumen.config.problems import ConfigError
from volumen.errors import UserError
from volumen.postprocess import apply_pipeline, describe, report_pipeline, walk
from volumen.postprocess.pipeline import DECISIONS, ON_MASKS, ON_PROBABILITIES

KINDS = get_args(get_args(Step)[0])


def field(seed: int = 0) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 40, 40)), 2.0)
    return (1 / (1 + np.exp(-4 * noise / noise.std()))).astype(np.float32)


def pipeline(*steps: dict) -> Postprocessing:
    return Postprocessing.model_validate({"steps": steps})


def test_every_kind_of_the_schema_has_its_function() -> None:
    kinds = {get_args(model.model_fields["kind"].annotation)[0] for model in KINDS}
    assert kinds == {*ON_PROBABILITIES, *DECISIONS, *ON_MASKS}


def test_all_steps_together_give_a_mask_and_leave_the_probabilities_alone() -> None:
    probabilities = field()
    before = probabilities.copy()
    first, rest = {"kind": "sharpen_ridges"}, [model.model_fields["kind"].annotation for model in KINDS]
    names = [get_args(name)[0] for name in rest]
    others = [{"kind": name} for name in names if name not in ("sharpen_ridges", "threshold", "hysteresis")]
    settings = pipeline(first, {"kind": "hysteresis", "low": 0.4, "high": 0.6}, *others)
    mask, reports = report_pipeline(probabilities, settings)
    assert np.array_equal(probabilities, before)
    assert np.array_equal(mask, apply_pipeline(probabilities, settings))
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}
    assert [one.name for one in reports] == ["hysteresis", *(one["kind"] for one in others)]
    for one, following in pairwise(reports):
        assert one.after == following.before
        assert one.after.voxels == one.before.voxels + one.voxels_added - one.voxels_removed
    assert len(list(walk(probabilities, settings))) == len(settings.steps)
    assert len(describe(settings).split(", ")) >= len(settings.steps)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"kind": "close"}], "exactly one threshold or hysteresis"),
        ([{"kind": "threshold"}, {"kind": "hysteresis"}], "exactly one threshold or hysteresis"),
        ([{"kind": "close"}, {"kind": "threshold"}], "close works on a mask: put it after threshold"),
        ([{"kind": "threshold"}, {"kind": "sharpen_ridges"}], "put it before threshold"),
        ([{"kind": "hysteresis", "low": 0.9, "high": 0.5}], "must be below high"),
        ([{"kind": "threshold"}, {"kind": "split_fused", "levels": (0.9, 0.6)}], "levels must rise"),
    ],
)
def test_an_order_without_sense_is_refused(steps, said) -> None:
    with pytest.raises(ValidationError, match=said):
        pipeline(*steps)


def test_the_threshold_of_a_pipeline_is_the_least_that_becomes_surface() -> None:
    assert Postprocessing().threshold == 0.5
    assert pipeline({"kind": "hysteresis", "low": 0.2, "high": 0.7}).threshold == 0.2


def test_single_settings_can_be_overridden_by_their_place() -> None:
    config = load_config("preset:default", ["postprocessing.steps.1.minimum_voxels=500"]).config
    assert [step.kind for step in config.postprocessing.steps] == ["threshold", "remove_small_components"]
    assert config.postprocessing.steps[1].minimum_voxels == 500


def test_presets_and_files_of_post_processing_load(tmp_path) -> None:
    assert postprocessing_names() == ("plan", "scroll")
    for name in postprocessing_names():
        (override,) = postprocessing_override(name)
        assert load_config("preset:default", [override]).config.postprocessing == load_postprocessing(name)
    file = tmp_path / "mine.yaml"
    file.write_text("postprocessing:\n  steps:\n    - {kind: threshold, level: 0.4}\n    - {kind: medain}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:4.*did you mean median"):
        load_postprocessing(str(file))
    with pytest.raises(UserError, match="one of the presets plan, scroll"):
        load_postprocessing("scrol")
