"""Laws of the data room: what moves moves together, what is divided stays whole, what is seeded repeats."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from small_datasets import prepared_dataset
from volumen.config.data import Augmentation, Data, Sampling
from volumen.data.augment import Variation, draw_variation, turned, vary, vary_intensity
from volumen.data.dataset import Case, Packed, PreparedDataset
from volumen.data.folds import load_folds, make_folds, save_folds
from volumen.data.labels import IGNORE, LabelMeanings, count_values, to_canonical
from volumen.data.normalise import IntensityStatistics, normalise, statistics_of
from volumen.data.randomness import generator
from volumen.data.sampling import PatchDataset

SPATIAL = Augmentation(
    rotations="all",
    affine_probability=1.0,
    affine_degrees=30.0,
    intensity_probability=0.0,
    gamma_probability=0.0,
    noise_probability=0.0,
    blur_probability=0.0,
)
RIGID = SPATIAL.model_copy(update={"affine_probability": 0.0})
EVERYTHING = Augmentation(
    rotations="about_z",
    affine_probability=0.5,
    intensity_probability=0.5,
    gamma_probability=0.5,
    noise_probability=0.5,
    blur_probability=0.5,
)

IDENTITY = Variation(None, (), (False, False, False), 1.0, 0.0, None, 0.0, 0.0)

numbers = st.integers(min_value=0, max_value=2**63)
sides = st.integers(min_value=8, max_value=14)
patches = st.one_of(sides.map(lambda side: (side, side, side)), st.tuples(sides, sides, sides))
labels = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=7), elements=st.integers(0, 2)
)


# Randomness


@given(numbers, numbers, numbers, st.text(max_size=10))
def test_a_stream_is_a_function_of_its_name(seed: int, epoch: int, index: int, stream: str) -> None:
    first, again = (generator(seed, epoch, index, stream).integers(2**63, size=4) for _ in range(2))
    np.testing.assert_array_equal(first, again)


key = st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40), st.sampled_from(["a", "b", "ab"]))


@given(key, key)
def test_different_names_give_different_streams(left: tuple, right: tuple) -> None:
    same = np.array_equal(generator(*left).integers(2**63, size=4), generator(*right).integers(2**63, size=4))
    assert same == (left == right)


@pytest.mark.parametrize("other", [(0, 2**32, 0), (0, 0, 2**32), (0, 1, 0), (0, 0, 1), (2**32, 0, 0), (1, 0, 0)])
def test_large_numbers_and_their_places_count(other: tuple[int, int, int]) -> None:
    """Also beyond 32 bits, where SeedSequence cuts numbers into words."""
    assert generator(*other, "stream").integers(2**63) != generator(0, 0, 0, "stream").integers(2**63)


@pytest.mark.parametrize("bad", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (2**128, 0, 0), (0, 2**64, 0)])
def test_numbers_out_of_range_are_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        generator(*bad, "stream")


# Labels and grey values


@given(arrays.arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.int32]), (3, 4, 5)))
def test_counting_values_agrees_with_numpy(array: np.ndarray) -> None:
    values, counts = np.unique(array, return_counts=True)
    assert count_values(array) == dict(zip(values.tolist(), counts.tolist(), strict=True))


@given(labels, st.permutations([0, 1, 2]), st.lists(st.integers(0, 255), min_size=3, max_size=3, unique=True))
def test_declared_values_become_their_codes(codes: np.ndarray, order: list[int], own: list[int]) -> None:
    stored = np.choose(codes, own).astype(np.uint8)
    meanings = LabelMeanings({own[code]: code for code in order})
    np.testing.assert_array_equal(to_canonical(stored, meanings), codes)


@given(labels, st.lists(st.integers(2, 200), min_size=3, max_size=3, unique=True), st.booleans())
def test_ranges_mean_what_their_values_mean_one_by_one(codes: np.ndarray, ends: list[int], rest: bool) -> None:
    """A value by itself goes before a range, and a range before the others."""
    low, alone, high = sorted(ends)
    single = {0: 0, alone: 2} | ({} if rest else {value: 1 for value in range(low, high + 1) if value != alone})
    ranges = {"others": 1} if rest else {f"{low}-{high}": 1}
    meanings = LabelMeanings({0: 0, alone: 2}, ranges=ranges)
    stored = np.choose(codes, [0, low, alone]).astype(np.uint8)
    np.testing.assert_array_equal(to_canonical(stored, meanings), codes)
    values = range(1, 201) if rest else range(low - 1, high + 2)
    expected = {value: {0: 0, alone: 2}.get(value, 1) for value in values} if rest else single
    assert {value: code for value in values if (code := meanings.code_of(value)) is not None} == {
        value: code for value, code in expected.items() if value in values
    }


@given(labels)
def test_an_undeclared_value_is_an_error(codes: np.ndarray) -> None:
    codes.flat[0] = 77
    with pytest.raises(ValueError, match=r"not declared: 77 in"):
        to_canonical(codes, LabelMeanings({0: 0, 1: 1, 2: 2}))


images = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int16, np.int32]), arrays.array_shapes(min_dims=3, max_dims=3, max_side=9)
)


@given(images)
def test_statistics_agree_with_numpy(image: np.ndarray) -> None:
    found = statistics_of(image)
    percentiles = np.percentile(image.astype(float), [0.5, 50, 99.5], method="inverted_cdf")
    assert (found.p00_5, found.p50, found.p99_5) == tuple(percentiles)
    assert (found.minimum, found.maximum) == (image.min(), image.max())
    assert found.mean == pytest.approx(image.mean(dtype=float), rel=1e-9, abs=1e-9)
    assert found.std == pytest.approx(image.std(dtype=float), rel=1e-6, abs=1e-6)


def test_a_volume_of_millions_of_values_is_described_in_a_few_times_its_size() -> None:
    image = np.random.default_rng(0).integers(-(2**30), 2**30, (64, 128, 128), dtype=np.int32)
    tracemalloc.start()
    statistics_of(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * image.nbytes  # a mapping by value took 50 times as much


@given(images, st.sampled_from(["zscore", "percentile", "none"]), st.data())
def test_normalising_commutes_with_cutting(image: np.ndarray, method, data: st.DataObject) -> None:
    """Also across the size at which a table takes over from arithmetic."""
    statistics = statistics_of(image)
    large = np.resize(image, (3, 100, 100))
    start = data.draw(st.integers(0, 2))
    part = normalise(large[start, 3:9], statistics, method)
    assert part.dtype == np.float32
    np.testing.assert_array_equal(part, normalise(large, statistics, method)[start, 3:9])
    if method == "percentile":
        assert 0.0 <= part.min() <= part.max() <= 1.0


# Augmentation


def drawn(config: Augmentation, patch: tuple[int, int, int], index: int) -> Variation:
    return draw_variation(config, patch, generator(0, 0, index, "test"))


@given(patches, st.integers(0, 2**32))
def test_flips_and_turns_move_image_and_label_alike_and_lose_no_voxel(patch: tuple[int, int, int], index: int) -> None:
    label = np.random.default_rng(index).integers(0, 3, size=patch).astype(np.uint8)
    tag = np.arange(label.size, dtype=np.float32).reshape(patch)
    variation = drawn(RIGID, patch, index)
    moved_tag, moved = vary(tag, label, variation, patch, generator(0, 0, 0, "noise"))
    assert moved.shape == patch
    assert np.array_equal(np.sort(moved_tag, axis=None), tag.ravel())
    np.testing.assert_array_equal(moved, label.ravel()[moved_tag.astype(int)])


@settings(deadline=None)
@given(patches, st.integers(0, 2**32), st.integers(0, 2), st.integers(-3, 3), st.sampled_from([1, IGNORE]))
def test_an_affine_change_moves_image_and_label_alike(
    patch: tuple[int, int, int], index: int, axis: int, offset: int, code: int
) -> None:
    """The image is the coordinate itself, the label a half-space of it: each voxel of one predicts the other."""
    variation = drawn(SPATIAL, patch, index)
    region = variation.region(patch)
    coordinate = np.indices(region)[axis].astype(np.float32)
    edge = region[axis] // 2 + offset
    label = np.where(coordinate >= edge, code, 0).astype(np.uint8)
    image, moved = vary(coordinate, label, variation, patch, generator(0, 0, 0, "noise"))
    assert image.shape == moved.shape == patch
    clear = np.abs(image - (edge - 0.5)) > 1e-3
    np.testing.assert_array_equal((moved == code)[clear], (image >= edge - 0.5)[clear])


@settings(deadline=None)
@given(patches, st.integers(0, 2**32))
def test_an_affine_patch_has_no_invented_corner(patch: tuple[int, int, int], index: int) -> None:
    """The region is large enough: with labels everywhere in it, nothing is ignored; and it shares the centre."""
    variation = drawn(SPATIAL, patch, index)
    region = variation.region(patch)
    assert all((outer - side) % 2 == 0 for outer, side in zip(region, patch, strict=True))
    _, label = vary(np.zeros(region, np.float32), np.ones(region, np.uint8), variation, patch, generator(0, 0, 0, "n"))
    assert np.all(label == 1)


@settings(deadline=None)
@given(patches)
def test_beyond_the_region_is_ignored(patch: tuple[int, int, int]) -> None:
    matrix = np.eye(3) * 3.0
    variation = Variation(matrix, (), (False, False, False), 1.0, 0.0, None, 0.0, 0.0)
    _, label = vary(np.zeros(patch, np.float32), np.zeros(patch, np.uint8), variation, patch, generator(0, 0, 0, "n"))
    assert label[0, 0, 0] == IGNORE
    assert label[-1, -1, -1] == IGNORE
    assert label[tuple(side // 2 for side in patch)] == 0


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_resampling_without_a_change_is_the_identity(index: int) -> None:
    random = np.random.default_rng(index)
    shape = (9, 10, 11)
    image = random.normal(size=shape).astype(np.float32)
    label = random.integers(0, 3, size=shape).astype(np.uint8)
    variation = Variation(np.eye(3), (), (False, False, False), 1.0, 0.0, None, 0.0, 0.0)
    same_image, same_label = vary(image, label, variation, shape, random)
    np.testing.assert_allclose(same_image, image, atol=1e-6)
    np.testing.assert_array_equal(same_label, label)


@settings(deadline=None)
@given(patches, st.integers(0, 2**32))
def test_resampling_agrees_with_scipy(patch: tuple[int, int, int], index: int) -> None:
    from scipy import ndimage

    random = np.random.default_rng(index)
    variation = drawn(SPATIAL.model_copy(update={"flips": False, "rotations": "none"}), patch, index)
    image = random.normal(size=variation.region(patch)).astype(np.float32)
    label = random.integers(0, 3, size=image.shape).astype(np.uint8)
    found, found_label = vary(image, label, variation, patch, random)
    offset = (np.array(image.shape) - 1) / 2 - variation.matrix @ ((np.array(patch) - 1) / 2)
    expected = ndimage.affine_transform(image, variation.matrix, offset, patch, order=1, mode="nearest")
    nearest = ndimage.affine_transform(label, variation.matrix, offset, patch, order=0, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.mean(found_label != nearest) < 1e-3  # ties


@settings(deadline=None)
@given(patches, st.integers(0, 2**32))
def test_variations_are_reproducible_and_stay_float32(patch: tuple[int, int, int], index: int) -> None:
    results = []
    for _ in range(2):
        random = generator(0, 0, index, "test")
        variation = draw_variation(EVERYTHING, patch, random)
        image = np.random.default_rng(index).normal(size=variation.region(patch)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        results.append(vary(image, label, variation, patch, random))
    assert results[0][0].dtype == np.float32
    assert results[0][1].dtype == np.uint8
    assert results[0][0].flags.c_contiguous
    assert results[0][1].flags.c_contiguous
    np.testing.assert_array_equal(results[0][0], results[1][0])


@given(st.floats(0.3, 3.0), st.integers(0, 2**32))
def test_gamma_keeps_the_range_and_the_order(gamma: float, index: int) -> None:
    image = np.random.default_rng(index).normal(size=(4, 5, 6)).astype(np.float32)
    variation = Variation(None, (), (False, False, False), 1.0, 0.0, gamma, 0.0, 0.0)
    curved = vary_intensity(image, variation, generator(0, 0, 0, "noise"))
    assert curved.min() == pytest.approx(image.min(), abs=1e-5)
    assert curved.max() == pytest.approx(image.max(), abs=1e-5)
    assert np.all(np.diff(curved.ravel()[np.argsort(image, axis=None)]) >= -1e-6)


def test_each_switch_does_what_it_says() -> None:
    image = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    random = generator(0, 0, 0, "noise")
    still = (None, (), (False, False, False))
    np.testing.assert_array_equal(vary_intensity(image, IDENTITY, random), image)
    np.testing.assert_allclose(vary_intensity(image, Variation(*still, 2.0, 0.5, None, 0, 0), random), image * 2 + 0.5)
    noisy = vary_intensity(image, Variation(*still, 1.0, 0.0, None, 0.2, 0), random)
    assert np.std(noisy - image) == pytest.approx(0.2, rel=0.1)
    blurred = vary_intensity(image, Variation(*still, 1.0, 0.0, None, 0, 1.0), random)
    assert blurred.std() < 0.5 * image.std()
    np.testing.assert_array_equal(turned(image, IDENTITY), image)


def test_probabilities_are_kept() -> None:
    drawn_ones = [drawn(Augmentation(rotations="about_z"), (16, 16, 16), index) for index in range(2000)]
    shares = {
        "affine": np.mean([one.matrix is not None for one in drawn_ones]),
        "intensity": np.mean([one.scale != 1.0 for one in drawn_ones]),
        "gamma": np.mean([one.gamma is not None for one in drawn_ones]),
        "noise": np.mean([one.noise_std > 0 for one in drawn_ones]),
        "blur": np.mean([one.blur_sigma_voxels > 0 for one in drawn_ones]),
    }
    expected = {name: getattr(Augmentation(), f"{name}_probability") for name in shares}
    assert shares == pytest.approx(expected, abs=0.035)
    assert np.mean([one.flips for one in drawn_ones], axis=0) == pytest.approx([0.5] * 3, abs=0.05)
    assert {tuple(plane[:2] for plane in one.quarter_turns) for one in drawn_ones} == {((1, 2),)}  # z stays z
    turns = np.bincount([one.quarter_turns[0][2] for one in drawn_ones]) / len(drawn_ones)
    assert turns == pytest.approx([0.25] * 4, abs=0.05)
    assert drawn(Augmentation(rotations="about_z"), (16, 24, 32), 0).quarter_turns == ()
    assert [turn[:2] for turn in drawn(Augmentation(rotations="about_z"), (16, 24, 24), 0).quarter_turns] == [(1, 2)]


# Patches


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_dataset(tmp_path_factory.mktemp("laws"), {"11": "a", "12": "b"})


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(*[st.integers(8, 36)] * 3),
    st.integers(0, 40),
    st.floats(0, 1),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)
def test_patches_lie_inside_and_repeat(
    prepared: PreparedDataset, patch: tuple[int, int, int], jitter: int, share: float, seed: int, epoch: int
) -> None:
    sampling = Sampling(patches_per_epoch=5, surface_share=share, jitter_voxels=jitter)
    config = Data(dataset="prepared", patch=patch, sampling=sampling, augmentation=EVERYTHING)
    dataset = PatchDataset(prepared, ("11", "12"), config, seed)
    for index in range(5):
        draw = dataset.draw(epoch, index)
        case = prepared.case(dataset.case_ids[draw.case])
        for first, side, length in zip(draw.origin, patch, case.shape, strict=True):
            assert (0 <= first <= length - side) if side <= length else (length - side <= first <= 0)
        if draw.centred and all(side <= length for side, length in zip(patch, case.shape, strict=True)):
            place = tuple(slice(first, first + side) for first, side in zip(draw.origin, patch, strict=True))
            assert np.any(prepared.label(case.id)[place] == 1)
    one, again = (dataset[dataset.key(epoch, 3)] for _ in range(2))
    assert all(np.array_equal(one[name], again[name]) for name in ("image", "target", "valid"))
    assert one["image"].shape == (1, *patch)
    assert not bool((one["target"].bool() & ~one["valid"]).any())


# Folds


def stand_in(scroll_of: list[int]) -> PreparedDataset:
    """A data set without files: folds only look at the manifest."""
    flat = IntensityStatistics(0, 1, 0, 0, 1, 0, 1)
    cases = tuple(
        Case(
            id=f"{number:03}",
            scroll_id=str(scroll),
            shape=(10, 10, 10 + number),
            dtype="uint8",
            statistics=flat,
            image_source="",
            image_sha256="",
            label_source="",
            label_sha256="",
            label_histogram={0: 500, 1: 100 + 37 * number % 90, 2: 400},
            packed={"images": Packed(0, "")},
        )
        for number, scroll in enumerate(scroll_of)
    )
    return PreparedDataset(Path("stand-in"), cases, LabelMeanings({0: 0, 1: 1, 2: 2}), "identity", "source")


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(2, 6), st.integers(0, 2**40))
def test_folds_are_disjoint_complete_and_grouped(scroll_of: list[int], count: int, seed: int) -> None:
    dataset = stand_in(scroll_of)
    folds, _ = make_folds(dataset, count, "auto", seed)
    assert (folds.by == "scroll") == (len(set(scroll_of)) > 1)
    groups = len(set(scroll_of)) if folds.by == "scroll" else len(scroll_of)
    assert len(folds.folds) == min(count, groups)
    everyone = {case.id for case in dataset.cases}
    validated = [case_id for fold in folds.folds for case_id in fold.validation]
    assert sorted(validated) == sorted(everyone)
    for fold in folds.folds:
        assert fold.validation
        assert set(fold.train) == everyone - set(fold.validation)
        if folds.by == "scroll":
            held = {dataset.case(case_id).scroll_id for case_id in fold.validation}
            assert not held & {dataset.case(case_id).scroll_id for case_id in fold.train}
    assert make_folds(dataset, count, "auto", seed)[0] == folds


@given(st.integers(5, 60), st.integers(2, 5), st.integers(0, 2**40))
def test_plain_folds_are_even(cases: int, count: int, seed: int) -> None:
    folds, _ = make_folds(stand_in([0] * cases), count, "volume", seed)
    sizes = [len(fold.validation) for fold in folds.folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_changes_the_folds_and_a_file_keeps_them(tmp_path: Path) -> None:
    dataset = stand_in([0] * 20)
    made = [make_folds(dataset, 5, "volume", seed)[0] for seed in range(5)]
    assert len({folds.folds for folds in made}) == 5
    save_folds(made[0], tmp_path / "folds.json")
    assert load_folds(tmp_path / "folds.json", dataset).folds == made[0].folds
