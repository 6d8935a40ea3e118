"""A fault in one volume of several is named by its kind, and the healthy ones are left alone."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.benchmark.volumes import Look, draw_volume
from volumen.doctor.data.outliers import findings_of, outliers
from volumen.doctor.data.portraits import portraits_of
from volumen.doctor.data.readings import Numbers, Seen
from volumen.doctor.data.volume_numbers import measure_volume
from volumen.doctor.findings import Severity
from volumen.phantoms.scrolls import phantom

Pair = tuple[np.ndarray, np.ndarray]


def measured(image: np.ndarray, label: np.ndarray) -> Numbers:
    statistics = SimpleNamespace(mean=float(image.mean()), std=float(image.std()))
    return measure_volume(Seen(SimpleNamespace(statistics=statistics), image, label))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    made = [phantom(20 + number, (64, 64, 64), scroll=number % 2) for number in range(6)]
    return [(one.image, one.label) for one in made]


@pytest.fixture(scope="module")
def numbers(pairs: list[Pair]) -> dict[str, Numbers]:
    return {f"case{number}": measured(*pair) for number, pair in enumerate(pairs)}


def coded(background: int, surface: int) -> Callable[[Pair], Pair]:
    table = np.array([background, surface, IGNORE], dtype=np.uint8)
    return lambda pair: (pair[0], table[pair[1]])


def negative(pair: Pair) -> Pair:
    return 255 - pair[0], pair[1]


def thicker(pair: Pair) -> Pair:
    wide = ndimage.binary_dilation(pair[1] == SURFACE, iterations=2) & (pair[1] != IGNORE)
    return pair[0], np.where(wide, SURFACE, pair[1]).astype(np.uint8)


def threshold(pair: Pair) -> Pair:
    image, label = pair
    bright = image > np.quantile(image[label != IGNORE], 0.6)
    return image, np.where(label == IGNORE, IGNORE, bright).astype(np.uint8)


def half_constant(pair: Pair) -> Pair:
    image = pair[0].copy()
    image[:, :30] = 120
    return image, pair[1]


def blurred(pair: Pair) -> Pair:
    return ndimage.gaussian_filter(pair[0], 3.0), pair[1]


def other_size(pair: Pair) -> Pair:
    image, label = (
        ndimage.zoom(one[16:48, 16:48, 16:48], 2, order=order) for one, order in zip(pair, (1, 0), strict=True)
    )
    return image, label


def scaled(factors: tuple[float, float, float]) -> Callable[[Pair], Pair]:
    def smaller(pair: Pair) -> Pair:
        image = ndimage.zoom(pair[0].astype(np.float32), factors, order=1)
        return np.rint(image).astype(np.uint8), ndimage.zoom(pair[1], factors, order=0)

    return smaller


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_healthy_volumes_are_left_alone_whatever_their_contrast(pairs, numbers, scale) -> None:
    changed = {**numbers, "case2": measured((pairs[2][0] * (256 * scale)).astype(np.uint16), pairs[2][1])}
    assert outliers(portraits_of(changed)) == {}


@pytest.mark.parametrize(
    ("fault", "said", "code"),
    [
        (coded(SURFACE, BACKGROUND), "another class", "P1"),
        (coded(BACKGROUND, BACKGROUND), "no surface", "P7"),
        (negative, "negative", "P7"),
        (thicker, "thicker", "P7"),
        (threshold, "threshold", "P7"),
        (half_constant, "constant", "P7"),
        (blurred, "blurred", "P7"),
        (other_size, "voxel size", "P7"),
    ],
)
@pytest.mark.parametrize("number", [1, 4])
def test_a_fault_is_named_by_its_kind(pairs, numbers, number, fault, said, code) -> None:
    portraits = portraits_of({**numbers, f"case{number}": measured(*fault(pairs[number]))})
    (finding,) = findings_of(portraits, outliers(portraits))
    assert said in finding.title
    assert (finding.code, finding.where) == (code, f"train_images/case{number}")
    assert f"case{number}" in finding.evidence


def noisy(pair: Pair) -> Pair:
    image, random = pair[0].astype(np.float64), np.random.default_rng(0)
    image[:, :, :54] = random.normal(image.mean(), image.std(), image[:, :, :54].shape)
    return np.clip(image, 0, 255).astype(np.uint8), pair[1]


def mirrored(pair: Pair) -> Pair:
    return pair[0], np.ascontiguousarray(pair[1][:, ::-1])


@pytest.mark.parametrize("look", ["sheets", "balls"])
@pytest.mark.parametrize("fault", [noisy, mirrored])
def test_a_label_that_its_image_does_not_show_is_named(look, fault) -> None:
    volumes = [draw_volume(Look(look, side=56, noise=0.5, count=22), 3, number) for number in range(5)]
    numbers = {f"case{number}": measured(one.image, one.label) for number, one in enumerate(volumes)}
    assert outliers(portraits_of(numbers)) == {}
    changed = {**numbers, "case3": measured(*fault((volumes[3].image, volumes[3].label)))}
    (case, law), *others = outliers(portraits_of(changed)).items()
    assert (case, others) == ("case3", [])
    assert law.severity is Severity.warn


@pytest.mark.parametrize("factors", [(0.5, 1.0, 1.0), (1.0, 1.0, 0.5), (0.5, 0.5, 0.5)])
def test_a_volume_of_fewer_voxels_is_told_by_its_sheets(factors) -> None:
    """Sheets are thinner at the same share of surface, and look otherwise; thinned labels would lose their share."""
    volumes = [draw_volume(Look("sheets"), 0, number) for number in range(5)]
    numbers = {f"case{number}": measured(one.image, one.label) for number, one in enumerate(volumes)}
    assert outliers(portraits_of(numbers)) == {}
    changed = {**numbers, "case2": measured(*scaled(factors)((volumes[2].image, volumes[2].label)))}
    (case, law), *others = outliers(portraits_of(changed)).items()
    assert (case, others) == ("case2", [])
    assert "voxel size" in law.title or "axis" in law.title


def test_a_volume_of_next_to_no_surface_is_named(pairs, numbers) -> None:
    image, label = pairs[1]
    few = np.where((label == SURFACE) & (np.indices(label.shape)[0] > 3), BACKGROUND, label).astype(np.uint8)
    (law,) = outliers(portraits_of({**numbers, "case1": measured(image, few)})).values()
    assert "next to no surface" in law.title


def test_exchanged_labels_are_one_finding_for_both(pairs, numbers) -> None:
    changed = {
        **numbers,
        "case0": measured(pairs[0][0], pairs[3][1]),
        "case3": measured(pairs[3][0], pairs[0][1]),
    }
    portraits = portraits_of(changed)
    (finding,) = findings_of(portraits, outliers(portraits))
    assert finding.title.startswith("2 volumes of 6: label and image")
    assert finding.where == "case0, case3"


def test_the_order_of_volumes_and_axes_of_the_image_change_nothing(pairs, numbers) -> None:
    portraits = portraits_of(numbers)
    reversed_ones = portraits_of(dict(reversed(numbers.items())))
    for case, one in portraits.items():
        assert reversed_ones[case].others == pytest.approx(one.others, abs=1e-6)
    turned = portraits_of({**numbers, "case1": measured(*(one.transpose(1, 2, 0).copy() for one in pairs[1]))})
    assert turned["case1"].share == portraits["case1"].share
    assert turned["case1"].thickness == pytest.approx(portraits["case1"].thickness, rel=0.05)
    assert turned["case1"].others == pytest.approx(portraits["case1"].others, abs=0.1)


@pytest.mark.parametrize(("look", "count"), [(Look("shells", side=40, count=7), 3), (Look("balls", thickness=9.0), 5)])
@pytest.mark.parametrize("seed", range(4))
def test_things_that_differ_in_size_are_not_called_thick_or_thin(look, count, seed) -> None:
    made = [draw_volume(look, seed, number) for number in range(count)]
    found = outliers(portraits_of({f"{n}": measured(one.image, one.label) for n, one in enumerate(made)}))
    assert not [law.title for law in found.values() if "thick" in law.title or "thin" in law.title]


def test_two_volumes_are_no_crowd(numbers) -> None:
    assert outliers(portraits_of({case: numbers[case] for case in ("case0", "case1")})) == {}
