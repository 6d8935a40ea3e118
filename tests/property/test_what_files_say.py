"""What a file says of itself is read and kept: axes in any order, voxel sizes in any unit, planes in any place."""

import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from volumen.data.arrays import read_array, spacing_in
from volumen.data.spacing import Spacing, spacing_of
from volumen.data.volumes import VolumeError, decode_volume, encode_volume, load_volume
from volumen.errors import UserError

SIDES = {"Z": 9, "Y": 10, "X": 11}


def grey(shape: tuple[int, ...] = (9, 10, 11)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", ["imagej_zcyx.tif", "ome_czyx.ome.tif", "ome_tzyx.ome.tif", "plain_4d.tif"])
def test_more_than_z_y_x_is_refused_with_a_command_that_chooses(cases: Path, tmp_path: Path, name: str) -> None:
    path = cases / "axes" / name
    whole = tifffile.imread(path)
    with pytest.raises(VolumeError, match=r"has the axes .*(channels C|times T) 2.*expected z, y, x") as caught:
        load_volume(path)
    assert str(caught.value).isprintable()
    command = str(caught.value).partition("python -c ")[2]
    subprocess.run(f"{sys.executable} -c {command}", shell=True, check=True, cwd=tmp_path)
    chosen = whole[:, 0] if whole.shape[1] == 2 else whole[0]
    np.testing.assert_array_equal(load_volume(tmp_path / "one.tif").array, chosen)


@given(
    st.permutations(sorted(SIDES)),
    st.lists(st.sampled_from(["C1", "T1", "C2", "T3", "Q1", "C9"]), max_size=2, unique_by=lambda one: one[0]),
    st.sampled_from([{}, {"compression": "zlib"}]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_axes_in_any_order_are_the_same_volume_or_refused(space, others, options, draw) -> None:
    axes = [*space, *(one[0] for one in others)]
    draw.shuffle(axes)
    sides = {**SIDES, **{one[0]: int(one[1]) for one in others}}
    array = grey(tuple(sides[axis] for axis in axes))
    content = _tiff(array, "".join(axes), options)
    if any(sides[one[0]] > 1 for one in others):
        with pytest.raises(VolumeError, match="expected z, y, x"):
            decode_volume(content, "v.tif")
        return
    singles = tuple(number for number, axis in enumerate(axes) if axis not in SIDES)
    left = [axis for axis in axes if axis in SIDES]
    expected = array.squeeze(singles).transpose([left.index(axis) for axis in "ZYX"])
    np.testing.assert_array_equal(decode_volume(content, "v.tif")[0], expected)


def _tiff(array: np.ndarray, axes: str, options: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack", metadata={"axes": axes}, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("axes", "side", "is_read"),
    [("CYX", 3, False), ("TYX", 30, False), ("CYX", 30, True), ("QYX", 3, True), ("IYX", 3, True), ("ZYX", 2, True)],
)
def test_times_and_a_few_channels_are_no_slices(tmp_path: Path, axes: str, side: int, is_read: bool) -> None:
    tifffile.imwrite(tmp_path / "v.tif", grey((side, 9, 8)), metadata={"axes": axes}, photometric="minisblack")
    if is_read:
        assert load_volume(tmp_path / "v.tif").array.shape == (side, 9, 8)
    else:
        with pytest.raises(VolumeError, match=f"{side}, y 9, x 8, expected z, y, x: the slices of a volume"):
            load_volume(tmp_path / "v.tif")


def ome(planes: str) -> str:
    return (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="11" SizeY="10" SizeZ="9" '
        'SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )


def write_ome(path: Path, text: str, volume: np.ndarray | None = None) -> None:
    tifffile.imwrite(
        path, grey() if volume is None else volume, description=text, metadata=None, photometric="minisblack"
    )


def test_planes_lie_where_the_file_says(tmp_path: Path) -> None:
    order = [4, 0, 8, 1, 7, 2, 6, 3, 5]
    planes = "".join(
        f'<TiffData FirstZ="{z}" FirstC="0" FirstT="0" IFD="{ifd}" PlaneCount="1"/>' for ifd, z in enumerate(order)
    )
    write_ome(tmp_path / "v.ome.tif", ome(planes), grey()[order])
    np.testing.assert_array_equal(load_volume(tmp_path / "v.ome.tif").array, grey())


def test_several_images_and_several_files_are_refused_and_levels_below_are_not_seen(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as writer:
        for _ in range(2):
            writer.write(grey(), metadata={"axes": "ZYX"})
    with pytest.raises(VolumeError, match="holds 2 images, expected one volume"):
        load_volume(tmp_path / "two.ome.tif")
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        for _ in range(2):
            writer.write(grey())
    with pytest.raises(VolumeError, match="holds more than one volume: 18 pages, 9 in the first"):
        load_volume(tmp_path / "two.tif")
    files = "".join(
        f'<TiffData FirstZ="{z}" IFD="0"><UUID FileName="{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>' for z in range(9)
    )
    write_ome(tmp_path / "many.ome.tif", ome(files), grey()[:2])
    with pytest.raises(VolumeError, match="one of 9 files of an OME-TIFF"):
        load_volume(tmp_path / "many.ome.tif")
    with tifffile.TiffWriter(tmp_path / "levels.ome.tif", ome=True) as writer:
        writer.write(grey(), subifds=1, metadata={"axes": "ZYX"})
        writer.write(grey()[:, ::2, ::2], subfiletype=1, metadata=None)
    np.testing.assert_array_equal(load_volume(tmp_path / "levels.ome.tif").array, grey())
    tifffile.imwrite(tmp_path / "rgb.tif", grey((9, 10, 11, 3)), photometric="rgb")
    with pytest.raises(VolumeError, match=r"picture in colours \(RGB\).*grey stack"):
        load_volume(tmp_path / "rgb.tif")


def ij(pixel: float, spacing: float | None, unit: str | None, tag: int = 1, per: float = 1.0) -> dict[str, object]:
    said = {"axes": "ZYX", "spacing": spacing, "unit": unit}
    metadata = {name: value for name, value in said.items() if value is not None}
    return {"imagej": True, "resolution": (per / pixel,) * 2, "resolutionunit": tag, "metadata": metadata}


def tags(x: float, y: float, tag: int, **metadata: object) -> dict[str, object]:
    return {"resolution": (x, y), "resolutionunit": tag, "metadata": metadata or None}


PHYSICAL = {"PhysicalSizeX": 7.6, "PhysicalSizeY": 7.6, "PhysicalSizeZ": 0.02, "PhysicalSizeZUnit": "mm"}
WRITTEN: dict[str, tuple[dict[str, object], str]] = {
    "imagej um": (ij(7.6, 20, "um"), "20 x 7.6 x 7.6 um"),
    "imagej micro sign": (ij(7.6, 20, "\\u00B5m"), "20 x 7.6 x 7.6 um"),
    "imagej mm": (ij(0.0076, 0.02, "mm"), "20 x 7.6 x 7.6 um"),
    "imagej cm tag": (ij(7.6, 20, "um", 3, 1e4), "20 x 7.6 x 7.6 um"),
    "imagej pixel": (ij(1, 2.5, "pixel"), "2.5 x 1 x 1 (no unit given)"),
    "no z": (ij(7.6, None, "um"), "? x 7.6 x 7.6 um"),
    "shaped": (tags(1e4 / 7.6, 1e4 / 7.9, 3, axes="ZYX", spacing=20, unit="um"), "20 x 7.9 x 7.6 um"),
    "shaped z alone": ({"metadata": {"axes": "ZYX", "spacing": 20, "unit": "um"}}, "20 x ? x ? um"),
    "tags": (tags(1e4 / 7.6, 1e4 / 7.6, 3), "? x 7.6 x 7.6 um"),
    "measured inches": (tags(25400 / 7.6, 25400 / 7.6, 2), "? x 7.6 x 7.6 um"),
    "a printer's": (tags(300, 300, 2), "None"),
    "nothing": ({}, "None"),
    "nothing imagej": ({"imagej": True, "metadata": {"axes": "ZYX"}}, "None"),
    "ome": ({"ome": True, "metadata": {"axes": "ZYX", **PHYSICAL}}, "20 x 7.6 x 7.6 um"),
    "xyz": (tags(1e4 / 20, 1e4 / 7.9, 3, axes="XYZ", spacing=7.6, unit="um"), "20 x 7.9 x 7.6 um"),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_a_voxel_size_is_read_where_it_stands(tmp_path: Path, way: str) -> None:
    options, expected = WRITTEN[way]
    tifffile.imwrite(tmp_path / "v.tif", grey((9, 9, 9)), photometric="minisblack", **options)
    assert str(load_volume(tmp_path / "v.tif").spacing) == expected


sides = st.one_of(st.none(), st.floats(0.01, 5000))


@given(sides, sides, sides, st.sampled_from(["um", ""]), st.sampled_from([np.uint8, np.uint16, np.int32]))
def test_a_voxel_size_that_is_written_is_read_again(z, y, x, unit, dtype) -> None:
    assume(unit or (x and y))  # numbers without a unit are a ratio, of which one side alone says nothing
    spacing = spacing_of([(side, unit) for side in (z, y if x else None, x if y else None)])
    array, found = decode_volume(encode_volume(grey().astype(dtype), spacing), "v.tif")
    np.testing.assert_array_equal(array, grey())
    if spacing is None:
        assert found is None
        return
    for before, after in zip(spacing.sides, found.sides, strict=True):
        assert after == (None if before is None else pytest.approx(before, rel=1e-5))
    assert found.unit == unit


@pytest.mark.parametrize(
    "said", ['{"spacing": [1, 2]}', '{"spacing": "x"}', '{"spacing": [1, 2, 0]}', "{", '{"spacing": 7}']
)
def test_what_stands_beside_a_file_is_a_spacing_or_told(tmp_path: Path, said: str) -> None:
    tifffile.imwrite(tmp_path / "a_0000.tif", grey())
    (tmp_path / "a.json").write_text('{"spacing": [80, 7.6, 7.6]}')
    assert load_volume(tmp_path / "a_0000.tif").spacing == Spacing(80, 7.6, 7.6, "")
    (tmp_path / "a.json").write_text(said)
    with pytest.raises(UserError, match=r"a\.json .*mend or remove it"):
        load_volume(tmp_path / "a_0000.tif")


# Zarr

AXES = {"v3 names": "zarr", "ngff": "ome", "xarray": "attributes"}


@pytest.mark.parametrize("way", AXES)
@pytest.mark.parametrize("axes", ["zyx", "xyz", "yxz", "czyx", "tczyx"])
def test_the_axes_of_a_zarr_store_are_read(tmp_path: Path, way: str, axes: str) -> None:
    sides = {"z": 4, "y": 5, "x": 6, "c": 1, "t": 1}
    for channels in (1, 2):
        sides["c"] = channels
        array = grey(tuple(sides[axis] for axis in axes)) + 1
        path = tmp_path / f"{channels}.zarr"
        if way == "ngff":
            group = zarr.open_group(str(path), mode="w")
            group.create_array("0", data=array)
            group.attrs["ome"] = {
                "multiscales": [{"axes": [{"name": axis} for axis in axes], "datasets": [{"path": "0"}]}]
            }
        elif way == "v3 names":
            zarr.create_array(str(path), data=array, dimension_names=list(axes))
        else:
            zarr.create_array(str(path), data=array, zarr_format=2, attributes={"_ARRAY_DIMENSIONS": list(axes)})
        if channels == 2 and "c" in axes:
            with pytest.raises(VolumeError, match=r"channels C 2, .*python -c "):
                read_array(path)
            continue
        left = [axis for axis in axes if axis in "zyx"]
        expected = array.reshape([sides[axis] for axis in left]).transpose([left.index(axis) for axis in "zyx"])
        np.testing.assert_array_equal(read_array(path), expected)


def test_the_scale_of_a_zarr_image_is_its_voxel_size(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "v.zarr"), mode="w")
    group.create_array("0", data=grey((1, 4, 5, 6)))
    axes = [{"name": name, "unit": "micrometer"} for name in "cxyz"]
    scaled = [{"type": "scale", "scale": [1, 7.6, 7.9, 10]}]
    twice = [{"type": "scale", "scale": [1, 1, 1, 2]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scaled}]}
    group.attrs["ome"] = {"multiscales": [{**image, "coordinateTransformations": twice}]}
    assert spacing_in(tmp_path / "v.zarr") == Spacing(20, 7.9, 7.6)
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    assert spacing_in(tmp_path / "v.zarr") is None


def test_one_of_several_images_of_a_zarr_store_has_to_be_named(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "v.zarr"), mode="w")
    images = []
    for name in "ab":
        group.create_array(name, data=grey((4, 5, 6)))
        images.append({"axes": ["x", "y", "z"], "datasets": [{"path": name}]})
    group.attrs["ome"] = {"multiscales": images}
    with pytest.raises(VolumeError, match="holds 2 images"):
        read_array(tmp_path / "v.zarr")
    np.testing.assert_array_equal(read_array(tmp_path / "v.zarr", "b"), grey((4, 5, 6)).T)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_every_missing_chunk_is_named(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("store") / "v.zarr"
    version = data.draw(st.sampled_from([2, 3]))
    shards = (4, 4, 4) if version == 3 and data.draw(st.booleans()) else None
    fill = data.draw(st.sampled_from([0, 1]))
    array = zarr.create_array(
        str(path), shape=(6, 5, 4), chunks=(2, 2, 2), shards=shards, dtype="u1", zarr_format=version, fill_value=fill,
        config={"write_empty_chunks": True},
    )  # fmt: skip
    places = list(itertools.product(range(3), range(3), range(2)))
    absent = data.draw(st.sets(st.sampled_from(places), max_size=5))
    if shards:  # a chunk that is never written is absent of its shard
        array = zarr.open_array(str(path), mode="r+", config={"write_empty_chunks": False})
    full = grey((6, 5, 4)) % 100 + 2
    for z, y, x in places:
        part = (slice(2 * z, 2 * z + 2), slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
        if (z, y, x) in absent:
            full[part] = fill
    array[...] = full
    if not shards:
        for place in absent:
            (path / array.metadata.encode_chunk_key(place)).unlink()
    if not absent:
        np.testing.assert_array_equal(read_array(path), full)
        return
    with pytest.raises(VolumeError, match=rf"lacks {len(absent)} of its 18 chunks .*--missing-is-empty"):
        read_array(path)
    if fill:
        with pytest.raises(VolumeError, match="read as 1, which is not empty"):
            read_array(path, missing_is_empty=True)
    else:
        np.testing.assert_array_equal(read_array(path, missing_is_empty=True), full)
