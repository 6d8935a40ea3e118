"""Predictions that say nothing are named; healthy ones are left alone."""

import numpy as np
import pytest

from volumen.inference.degenerate import appearance_of, degenerate_warnings, symptoms_of

RANDOM = np.random.default_rng(0)


def look(case_id: str, probabilities: np.ndarray):
    probabilities = probabilities.astype(np.float32)
    return appearance_of(case_id, (probabilities > 0.5).view(np.uint8), probabilities)


def healthy(case_id: str, share: float = 0.06):
    return look(case_id, np.where(RANDOM.random((16, 16, 16)) < share, 0.9, 0.05))


def test_healthy_predictions_raise_no_warning():
    assert degenerate_warnings([healthy("a"), healthy("b"), healthy("c", 0.5)]) == ()


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        (np.linspace(0, 0.4, 4096).reshape(16, 16, 16), "no surface at all"),
        (np.linspace(0.51, 1, 4096).reshape(16, 16, 16), "every voxel"),
        (np.where(np.arange(4096).reshape(16, 16, 16) < 5, 0.1, 0.9), "99.88 % of the volume"),
        (np.full((16, 16, 16), 0.3), "does not depend on the image"),
        (1 / (1 + np.exp(-RANDOM.random((16, 16, 16)))), "a sigmoid was applied to what was already"),
    ],
)
def test_what_says_nothing_is_named(probabilities, said):
    assert any(said in warning for warning in degenerate_warnings([healthy("a"), look("b", probabilities)]))


def test_identical_shares_on_different_volumes_are_named_once():
    same = [
        look(name, np.roll(np.arange(4096) < 300, shift).reshape(16, 16, 16)) for name, shift in (("a", 0), ("b", 9))
    ]
    (warning,) = degenerate_warnings([*same, healthy("c")])
    assert warning.startswith("a, b: identical surface share 7.3242 % on 2 different volumes")


def test_a_mask_without_probabilities_is_looked_at_too():
    appearance = appearance_of("a", np.zeros((4, 4, 4), dtype=np.uint8))
    assert degenerate_warnings([appearance]) == ("a: no surface at all was predicted",)


def test_symptoms_have_a_kind_and_their_cases():
    twins = [
        look(name, np.roll(np.arange(4096) < 300, shift).reshape(16, 16, 16)) for name, shift in (("a", 0), ("b", 9))
    ]
    found = symptoms_of([*twins, look("c", np.linspace(0.51, 1, 4096).reshape(16, 16, 16))])
    assert {one.kind: one.cases for one in found} == {"all_surface": ("c",), "identical_share": ("a", "b")}


def test_a_second_sigmoid_does_not_hide_behind_an_empty_corner():
    image = np.ones((16, 16, 16), bool)
    image[:8] = False
    probabilities = np.where(image, 1 / (1 + np.exp(-RANDOM.random((16, 16, 16)))), 2e-9).astype(np.float32)
    mask = (probabilities > 0.5).view(np.uint8)
    assert symptoms_of([appearance_of("a", mask, probabilities)]) == ()
    found = symptoms_of([appearance_of("a", mask, probabilities, image, (0,))])
    assert [symptom.kind for symptom in found] == ["all_surface", "second_sigmoid"]
