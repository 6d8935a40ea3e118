"""The phantom scroll: the same bytes for the same seed, labels that mean what they say, and a data set on disk."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import edt
import numpy as np
import pytest
import tifffile
from ruamel.yaml import YAML

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.data.randomness import generator
from volumen.errors import UserError
from volumen.phantoms import scrolls as phantom_module
from volumen.phantoms.geometry import SheetSettings, make_sheets
from volumen.phantoms.imaging import ScanSettings, material_density
from volumen.phantoms.labels import annotate
from volumen.phantoms.scrolls import Phantom, phantom, write_phantom_dataset
from volumen.system.locks import folder_in_the_making

SHAPE = (64, 64, 64)
DIGEST_SCRIPT = """
import hashlib
from volumen.phantoms.scrolls import phantom
made = phantom(7, (48, 40, 56), scroll=2)
print(hashlib.sha256(made.image.tobytes() + made.label.tobytes() + made.sheet_ids.tobytes()).hexdigest())
"""


def digest(made: Phantom) -> str:
    return hashlib.sha256(made.image.tobytes() + made.label.tobytes() + made.sheet_ids.tobytes()).hexdigest()


def stream(seed: int):
    return lambda name: generator(seed, 0, 0, name)


@pytest.fixture(scope="module")
def twelve() -> list[Phantom]:
    return [phantom(seed, SHAPE, scroll=seed % 4) for seed in range(12)]


def test_arrays_have_the_promised_types_and_values(twelve: list[Phantom]) -> None:
    for made in twelve:
        assert made.image.shape == made.label.shape == made.sheet_ids.shape == SHAPE
        assert (made.image.dtype, made.label.dtype, made.sheet_ids.dtype) == (np.uint8, np.uint8, np.int16)
        assert set(np.unique(made.label)) == {BACKGROUND, SURFACE, IGNORE}
        assert made.sheet_ids.min() == 0
        assert made.sheet_ids.max() >= 3


def test_a_new_process_with_other_threads_and_hashes_makes_the_same_bytes() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2"}
    other = subprocess.run(
        [sys.executable, "-c", DIGEST_SCRIPT], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()
    assert other == digest(phantom(7, (48, 40, 56), scroll=2))


def test_seed_scroll_and_difficulty_all_matter() -> None:
    made = [phantom(1, SHAPE), phantom(2, SHAPE), phantom(1, SHAPE, scroll=1), phantom(1, SHAPE, difficulty=0.6)]
    assert len({digest(one) for one in made}) == 4


def test_shares_are_like_the_competitions(twelve: list[Phantom]) -> None:
    surface = [float((made.label == SURFACE).mean()) for made in twelve]
    unlabelled = [float((made.label == IGNORE).mean()) for made in twelve]
    assert 0.05 <= min(surface) <= max(surface) <= 0.12
    assert 0.30 <= min(unlabelled) <= max(unlabelled) <= 0.65


def test_no_piece_of_surface_joins_two_sheets() -> None:
    """The sheets touch, their annotated faces must not: else the truth itself would hold merges."""
    for seed in (0, 1, 2, 5):
        random, settings = stream(seed), SheetSettings(thickness_voxels=12.0, hole_share=0.0)
        sheets = make_sheets(random, SHAPE, settings)
        surface = annotate(random, sheets) == SURFACE
        # The place along the papyrus of the face that each voxel of the band belongs to: its own winding's or the next.
        belongs_to_next = np.abs(sheets.below_next_recto + 0.75) < np.abs(sheets.above_recto - 0.75)
        place = sheets.spiral.turns + belongs_to_next
        for axis in range(3):
            band, turns = np.moveaxis(surface, axis, 0), np.moveaxis(place, axis, 0)
            jump = np.abs(turns[1:] - turns[:-1])[band[1:] & band[:-1]]
            assert jump.max() < 0.9  # a turn further is another sheet


def test_surface_is_a_band_of_three_voxels_at_the_recto_face_only() -> None:
    random = stream(3)
    sheets = make_sheets(random, SHAPE, SheetSettings(fold_strength=0.05, hole_share=0.0))
    label = annotate(random, sheets)
    surface = label == SURFACE
    distance = np.where(
        np.abs(sheets.above_recto - 0.75) < np.abs(sheets.below_next_recto + 0.75),
        sheets.above_recto - 0.75,
        -sheets.below_next_recto - 0.75,
    )
    assert np.abs(distance[surface]).max() <= 1.5
    assert np.all(label[np.abs(distance) <= 1.49] != BACKGROUND)
    # Thickness from a count: voxels of the band, over the voxels of a unit-thick layer of the same annotated windings.
    core = surface & (np.abs(distance) <= 0.5)
    assert surface.sum() / core.sum() == pytest.approx(3.0, abs=0.12)


def test_recto_layer_is_denser_and_its_fibres_run_along_the_winding() -> None:
    random = stream(4)
    sheets = make_sheets(random, SHAPE, SheetSettings())
    density = material_density(random, sheets, ScanSettings(recto_density=1.18))
    solid = sheets.occupancy > 0.99
    recto, verso = solid & (sheets.depth_share < 0.3), solid & (sheets.depth_share > 0.7)
    assert 1.14 < density[recto].mean() / density[verso].mean() < 1.22
    # Fibres along z vary little along z: the verso's. Those along the winding are cut across by z: the recto's.
    steps_recto = np.abs(np.diff(sheets.recto_fibres, axis=0))[recto[1:] & recto[:-1]].mean()
    steps_verso = np.abs(np.diff(sheets.verso_fibres, axis=0))[verso[1:] & verso[:-1]].mean()
    assert steps_recto > 2 * steps_verso


def test_recto_faces_look_towards_the_axis() -> None:
    """With the axis outside, going out along the radius one enters each sheet by its recto face."""
    sheets = make_sheets(stream(8), SHAPE, SheetSettings(fold_strength=0.0, delaminated_share=0.0, hole_share=0.0))
    entering = np.gradient(sheets.spiral.turns + sheets.spiral.fraction)
    depth = np.gradient(sheets.depth_share)
    inside = (sheets.depth_share > 0.2) & (sheets.depth_share < 0.8)
    agreement = sum(a * b for a, b in zip(entering, depth, strict=True))[inside]
    assert (agreement > 0).mean() > 0.95


def test_background_is_labelled_only_near_annotated_surfaces(twelve: list[Phantom]) -> None:
    for made in twelve:
        distance = edt.edt(np.ascontiguousarray(made.label != SURFACE))
        assert np.quantile(distance[made.label == BACKGROUND], 0.99) < 14
        assert distance[made.label == IGNORE].max() > 14


def test_difficulty_closes_the_gaps_and_adds_noise() -> None:
    easy, hard = (phantom(3, SHAPE, scroll=1, difficulty=difficulty) for difficulty in (0.0, 1.0))
    assert (hard.sheet_ids == 0).mean() < (easy.sheet_ids == 0).mean()

    def roughness(made: Phantom) -> float:
        return float(np.abs(np.diff(made.image.astype(float), axis=0)).mean() / made.image.std())

    assert roughness(hard) > 1.3 * roughness(easy)


def test_without_holes_every_winding_is_whole() -> None:
    whole = make_sheets(stream(5), SHAPE, SheetSettings(hole_share=0.0, delaminated_share=0.0))
    torn = make_sheets(stream(5), SHAPE, SheetSettings(hole_share=0.05, delaminated_share=0.0))
    begun = whole.spiral.turns > 0.6
    assert np.all(whole.own_recto_present == begun)
    lost = 1 - torn.own_recto_present[begun].mean()
    assert 0.01 < lost < 0.12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (64, 64)}, "three sizes"),
        ({"shape": (64, 64, 16)}, "at least 32"),
        ({"seed": -1}, "seed"),
        ({"scroll": -1}, "scroll"),
        ({"difficulty": 1.5}, "difficulty"),
        ({"difficulty": float("nan")}, "difficulty"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        phantom(**{"seed": 0, "shape": SHAPE, **arguments})


def small_dataset(folder: Path, **changes) -> Path:
    settings = {"volumes": 3, "shape": (32, 40, 36), "scrolls": 2, "seed": 5, "test_volumes": 1, **changes}
    return write_phantom_dataset(folder, **settings)


def folder_digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_dataset_has_the_competitions_layout(tmp_path: Path) -> None:
    folder = small_dataset(tmp_path / "made")
    assert sorted(folder_digest(folder)) == [
        "dataset.yaml",
        "test.csv",
        "test_images/10004.tif",
        *("train.csv", *(f"train_images/{number}.tif" for number in (10001, 10002, 10003))),
        *(f"train_labels/{number}.tif" for number in (10001, 10002, 10003)),
    ]
    assert (folder / "train.csv").read_text() == "id,scroll_id\n10001,1\n10002,2\n10003,1\n"
    assert (folder / "test.csv").read_text() == "id,scroll_id\n10004,2\n"
    for path in folder.rglob("*.tif"):
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].compression == tifffile.COMPRESSION.LZW
            volume = file.asarray()
        assert volume.shape == (32, 40, 36)
        assert volume.dtype == np.uint8
    meanings = YAML(typ="safe").load(folder / "dataset.yaml")
    assert meanings["labels"] == {0: "background", 1: "surface", 2: "ignore"}
    assert meanings["spacing_um"] == [7.91] * 3
    assert "synthetic" in meanings["description"]


def test_same_seed_same_files_other_seed_other_images(tmp_path: Path) -> None:
    first, again, other = (
        folder_digest(small_dataset(tmp_path / name, seed=seed)) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == again
    assert not {first[name] for name in first if "images" in name} & {other[name] for name in other if "images" in name}


def test_more_volumes_leave_the_first_ones_as_they_were(tmp_path: Path) -> None:
    few = folder_digest(small_dataset(tmp_path / "few", test_volumes=0))
    more = folder_digest(small_dataset(tmp_path / "more", volumes=4, test_volumes=0))
    assert all(more[name] == digest for name, digest in few.items() if name.endswith(".tif"))


def test_a_full_folder_is_refused_and_an_empty_one_used(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        small_dataset(full)
    assert [path.name for path in full.iterdir()] == ["note.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (small_dataset(empty) / "train.csv").is_file()
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="not an empty folder"):
        small_dataset(file)


@pytest.mark.parametrize("numbers", [{"volumes": 0}, {"scrolls": 0}, {"scrolls": 4}, {"test_volumes": -1}])
def test_impossible_numbers_are_refused(tmp_path: Path, numbers: dict) -> None:
    with pytest.raises(UserError, match="volumes"):
        small_dataset(tmp_path / "made", **numbers)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fails_on_the_second(*arguments, **options) -> Phantom:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return phantom(*arguments, **options)

    monkeypatch.setattr(phantom_module, "phantom", fails_on_the_second)
    with pytest.raises(OSError, match="No space"):
        small_dataset(tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_numbers_beyond_any_machine_are_refused_before_the_work(tmp_path) -> None:
    for arguments in ({"seed": 2**63}, {"seed": -1}, {"scroll": 2**64}, {"difficulty": float("nan")}):
        with pytest.raises(UserError, match="phantom: "):
            phantom(**{"seed": 0, "shape": (32, 32, 32), **arguments})
    with pytest.raises(
        UserError, match=r"phantom: a volume of \[1000000, 1000000, 1000000\] takes .* of memory are free"
    ):
        phantom(0, (10**6, 10**6, 10**6))


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "inside", tmp_path / ("x" * 300), tmp_path / "file"):
        with pytest.raises(UserError, match=r"cannot be written to|is not an empty folder"):
            write_phantom_dataset(place, volumes=1, shape=(32, 32, 32), scrolls=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_of_a_folder_is_removed_by_whoever_makes_it_again(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal; from volumen.system.locks import folder_in_the_making\n"
        f"with folder_in_the_making(pathlib.Path({str(tmp_path / 'set')!r})) as making:\n"
        "    (making / 'half').write_bytes(b'x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with folder_in_the_making(tmp_path / "another") as making:
        (making / "whole").write_bytes(b"x")
        assert len(list(tmp_path.iterdir())) == 2  # what is another folder's stays
    with folder_in_the_making(tmp_path / "set") as making:
        (making / "whole").write_bytes(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "set"]
    with pytest.raises(ValueError, match="no"), folder_in_the_making(tmp_path / "third"):
        raise ValueError("no")
    assert len(list(tmp_path.iterdir())) == 2
