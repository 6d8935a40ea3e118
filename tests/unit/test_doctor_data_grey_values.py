"""Healthy volumes are left in peace whatever their kind; what happened to the grey values of one is named."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from volumen.data.dataset import Case
from volumen.data.labels import SURFACE
from volumen.data.normalise import statistics_of
from volumen.doctor.data.grey import GREY
from volumen.doctor.data.grey_values import check_grey_values
from volumen.doctor.findings import Severity


def healthy(seed: int, dtype=np.uint8) -> np.ndarray:
    """Bright ridges in the dark, a skewed histogram."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.standard_normal((32, 32, 32)), 2)
    grey = 70 + 60 * np.exp(field / field.std() - 1).clip(0, 3) / 2 + random.normal(0, 3, field.shape)
    return (grey.clip(1, 254) * (257 if dtype == np.uint16 else 1)).astype(dtype)


def told(images: list[np.ndarray], method="zscore", upright=()):
    cases = [
        Case(f"v{n}", "one", image.shape, image.dtype.name, statistics_of(image), f"train_images/v{n}.tif", f"{n}",
             None, None, {0: 1, SURFACE: 9, 2: 0}, {})
        for n, image in enumerate(images)
    ]  # fmt: skip
    context = SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(normalisation=method)),
        dataset=SimpleNamespace(cases=cases),
        where=lambda key: key,
    )
    numbers = {
        case.id: GREY.run(SimpleNamespace(image=image, case=case, label=None))
        for case, image in zip(cases, images, strict=True)
    }
    return list(check_grey_values(context, numbers, upright))


@pytest.mark.parametrize("method", ["zscore", "percentile", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_healthy_volumes_are_left_in_peace(method, dtype) -> None:
    assert told([healthy(seed, dtype) for seed in range(5)], method) == []


def hot(image: np.ndarray) -> np.ndarray:
    wide = image.astype(np.uint16)
    wide.flat[:: 32 * 32 * 3 + 7] = 60_000
    return wide


def rounded(image: np.ndarray) -> np.ndarray:
    return image // 20


def two_values(image: np.ndarray) -> np.ndarray:
    return np.where(image > np.median(image), 255, 90).astype(np.uint8)


def narrow(image: np.ndarray) -> np.ndarray:
    """A window of a few grey values."""
    low, high = np.percentile(image, (45, 62))
    return np.rint((image - low) * 255.0 / (high - low)).clip(0, 255).astype(np.uint8)


def cut(image: np.ndarray) -> np.ndarray:
    return np.minimum(image, int(np.percentile(image, 90)))


def inverted(image: np.ndarray) -> np.ndarray:
    return 255 - image


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (hot, "hot voxels"),
        (rounded, "few grey values"),
        (two_values, "few grey values"),
        (narrow, "cut off at the top"),
        (cut, "cut off at the top"),
        (inverted, "inverted"),
    ],
)
@pytest.mark.parametrize("seed", [0, 10])
def test_one_volume_that_is_not_like_the_others_is_named(fault, words, seed) -> None:
    images = [healthy(seed + number) for number in range(5)]
    images[2] = fault(images[2])
    first = told(images)[0]
    assert first.severity == Severity.warn
    assert words in first.title
    assert "v2" in first.title


@pytest.mark.parametrize("seed", range(4))
def test_a_dark_volume_whose_noise_fills_the_steps_has_lost_nothing(seed) -> None:
    images = [healthy(seed + number) for number in range(5)]
    noise = np.random.default_rng(seed).normal(0, 1.2, images[2].shape)
    images[2] = np.rint(images[2] / 20 + noise).clip(0, 255).astype(np.uint8)
    assert 4 < len(np.unique(images[2])) < 24
    assert not [finding for finding in told(images) if "few grey values" in finding.title]


def test_a_volume_whose_labels_say_that_it_is_no_negative_is_not_called_one() -> None:
    images = [healthy(number) for number in range(5)]
    images[2] = inverted(images[2])
    assert "inverted" in told(images)[0].title
    assert told(images, upright={"v2"}) == []


def test_few_bits_in_a_large_type_reach_a_network_as_next_to_nothing() -> None:
    images = [healthy(seed).astype(np.uint16) for seed in range(4)]
    assert "next to nothing" in told(images, "none")[0].title
    assert told(images, "zscore") == []


def test_other_units_matter_where_no_normalisation_takes_them_away() -> None:
    images = [healthy(seed, np.uint16) for seed in range(5)]
    images[1] //= 16
    assert [(one.severity, "v1" in one.title) for one in told(images, "percentile")] == [(Severity.note, True)]
    assert [(one.severity, "v1" in one.title) for one in told(images, "none")] == [(Severity.warn, True)]


def test_a_normalisation_that_clips_all_there_is_stops_the_run() -> None:
    images = [np.full((32, 32, 32), 10, dtype=np.uint8) for _ in range(2)]
    for image in images:
        image[5:7, 5:7, 5:30] = 200  # less than half a percent
    found = told(images)
    assert found[0].severity == Severity.stop
