"""`volumen prepare`: every bad data set gets the right message, and a good one is packed exactly, once."""

import json
import shutil
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import tifffile

from small_datasets import MEANINGS, SHAPE, command, save, volume, write_dataset
from volumen._version import __version__
from volumen.data import pack
from volumen.data.dataset import MANIFEST, PreparedDataset
from volumen.data.labels import SURFACE
from volumen.data.prepare import prepare
from volumen.errors import UserError

prepare_module = sys.modules["volumen.data.prepare"]

CASES = {"11": "a", "12": "a", "13": "b"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "source", CASES)


def refused(dataset: Path, *options: object) -> str:
    """The message of a refusal; nothing that could be trained on may be left."""
    out = dataset.parent / "prepared"
    result = command("prepare", dataset, "--out", out, *options)
    assert result.code == 2
    assert not (out / MANIFEST).exists()
    return result.error


def test_a_good_data_set_is_packed_exactly(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "source", CASES, tests={"21": "b"})
    result = command("prepare", dataset, "--out", tmp_path / "prepared", "--workers", 2)
    assert result.code == 0
    assert "4 cases in" in result.out
    prepared = PreparedDataset.open(tmp_path / "prepared")
    assert [case.id for case in prepared.cases] == ["11", "12", "13", "21"]
    assert [case.scroll_id for case in prepared.cases] == ["a", "a", "b", "b"]
    for number, case in enumerate(prepared.labelled):
        image, label = volume(number)
        np.testing.assert_array_equal(prepared.image(case.id), image)
        np.testing.assert_array_equal(prepared.label(case.id), label)
        assert case.label_histogram == {code: np.count_nonzero(label == code) for code in (0, 1, 2)}
        statistics = case.statistics
        assert statistics.mean == pytest.approx(image.mean(), abs=1e-9)
        assert statistics.std == pytest.approx(image.std(), abs=1e-9)
        percentiles = np.percentile(image, [0.5, 50, 99.5], method="inverted_cdf")
        assert (statistics.p00_5, statistics.p50, statistics.p99_5) == tuple(percentiles)
        positions = prepared.surface_positions(case.id)
        assert len(positions) == case.surface_voxels
        assert np.all(label[tuple(np.asarray(positions).T)] == SURFACE)
    test_image = prepared.case("21")
    assert not test_image.has_label
    with pytest.raises(UserError, match=r"case 21 .* has no label"):
        prepared.label("21")


def test_a_package_that_is_not_installed_says_its_version(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = prepare_module.version

    def installed(name: str) -> str:
        if name == "volumen":
            raise PackageNotFoundError(name)
        return asks(name)

    monkeypatch.setattr(prepare_module, "version", installed)
    monkeypatch.setattr("importlib.metadata.version", installed)
    prepare(dataset, dataset.parent / "from_source")
    versions = json.loads((dataset.parent / "from_source" / MANIFEST).read_text())["versions"]
    assert versions["volumen"] == __version__
    assert versions["numpy"] == np.__version__


def test_own_values_become_canonical_codes(tmp_path: Path) -> None:
    dataset = write_dataset(
        tmp_path / "source", {"11": "a"}, meanings="labels: {7: background, 300: surface, 255: ignore, 4: ignore}\n"
    )
    label = np.full(SHAPE, 7, np.uint16)
    label[3], label[4], label[5] = 300, 255, 4
    save(dataset / "train_labels" / "11.tif", label)
    prepared = prepare(dataset, tmp_path / "prepared")
    assert [int(prepared.label("11")[z, 0, 0]) for z in (2, 3, 4, 5)] == [0, 1, 2, 2]


def test_a_large_surface_is_sampled_the_same_way_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MOST_POSITIONS", 50)
    codes = volume(0)[1]
    first = pack.sample_positions(codes == 1, "surface", "11")
    assert first.shape == (50, 3)
    assert len(np.unique(first, axis=0)) == 50
    assert np.all(codes[tuple(first.T)] == SURFACE)
    np.testing.assert_array_equal(first, pack.sample_positions(codes == 1, "surface", "11"))
    assert not np.array_equal(first, pack.sample_positions(codes == 1, "surface", "12"))


def test_meanings_are_never_guessed(dataset: Path) -> None:
    (dataset / "dataset.yaml").unlink()
    error = refused(dataset)
    assert "dataset.yaml is missing" in error
    assert "value     2:" in error
    assert "2: ignore" in error
    assert "--accept-proposal" in error
    proposed = dataset.parent / "prepared" / "dataset.yaml.proposed"
    shutil.copy(proposed, dataset / "dataset.yaml")
    result = command("prepare", dataset, "--out", dataset.parent / "prepared")
    assert result.code == 0
    assert "labels: 0 background, 1 surface, 2 ignore" in result.out


def test_a_proposal_can_be_accepted_and_the_acceptance_is_stated(dataset: Path) -> None:
    (dataset / "dataset.yaml").unlink()
    result = command("prepare", dataset, "--out", dataset.parent / "prepared", "--accept-proposal")
    assert result.code == 0
    assert "accepted with --accept-proposal" in result.out


def test_strange_values_are_not_proposed_for(dataset: Path) -> None:
    (dataset / "dataset.yaml").unlink()
    save(dataset / "train_labels" / "11.tif", volume(0)[1] * 50)
    error = refused(dataset, "--accept-proposal")
    assert "there is no proposal" in error
    assert "50: ?" in error


def test_meanings_from_elsewhere(dataset: Path, tmp_path: Path) -> None:
    (dataset / "dataset.yaml").rename(tmp_path / "meanings.yaml")
    result = command("prepare", dataset, "--out", tmp_path / "prepared", "--meanings", tmp_path / "meanings.yaml")
    assert result.code == 0


@pytest.mark.parametrize("declared", ["1-40: surface", "others: surface"])
def test_sheets_that_were_numbered_are_declared_by_a_range(dataset: Path, tmp_path: Path, declared: str) -> None:
    """Instance labels 1 ... N are surface all of them, and the manifest says so again."""
    label = volume(0)[1]
    label[label == 1] = 1 + np.arange(np.count_nonzero(label == 1)) % 40
    label[label == 2] = 7
    save(dataset / "train_labels" / "11.tif", np.where(volume(0)[1] == 2, 99, label).astype(np.uint8))
    (dataset / "dataset.yaml").write_text(f"labels: {{0: background, 99: ignore, {declared}, 2: ignore}}\n")
    assert command("prepare", dataset, "--out", tmp_path / "prepared").code == 0
    prepared = PreparedDataset.open(tmp_path / "prepared")
    np.testing.assert_array_equal(np.asarray(prepared.label("11")) == 2, (label == 2) | (volume(0)[1] == 2))
    assert declared.replace(":", "") in prepared.meanings.written
    assert prepared.meanings.code_of(40) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "labels: {0: background, 1: surfaces}\n",
            "dataset.yaml:1: labels.1: expected background | surface | ignore, got text 'surfaces'; did you",
        ),
        ("labels: {0: background, 2: ignore}\n", "no value means surface"),
        ("labels: {0x0: background, 1: surface}\n", "'0x0' is not a whole number"),
        ("label: {0: background, 1: surface}\n", "unknown key 'label'; did you mean labels?"),
        (
            "labels: {0: background, 1: surface}\nspacing_um: -1\n",
            "dataset.yaml:2: spacing_um: expected number > 0",
        ),
        ("labels: {0: background, 0: ignore, 1: surface}\n", "the key is written twice"),
        ("labels: {0: background, -0: ignore, 1: surface}\n", "'-0' is not a whole number"),
        (
            "labels: {0: [background], 1: surface}\n",
            "labels.0: expected background | surface | ignore, got a list",
        ),
        ("labels: {0: background, 1: surface}\nspacing_um: .inf\n", "spacing_um: expected number"),
        ("- 0\n", "expected `key: value` lines"),
        ("labels: {0: background, 40-1: surface}\n", "the range 40-1 ends before it begins"),
        ("labels: {0: background, 1-40: surface, 30-50: ignore}\n", "the ranges 1-40 and 30-50 overlap"),
        ("labels: {0: background, 1-: surface}\n", "'1-' is not a whole number that a label can hold, a range such as"),
    ],
)
def test_bad_meanings_are_refused(dataset: Path, text: str, message: str) -> None:
    (dataset / "dataset.yaml").write_text(text)
    assert message in refused(dataset)


def break_undeclared(dataset: Path) -> None:
    label = volume(0)[1]
    label[0, 0, :5] = 9
    save(dataset / "train_labels" / "11.tif", label)


def break_all_ignored(dataset: Path) -> None:
    save(dataset / "train_labels" / "11.tif", np.full(SHAPE, 2, np.uint8))


def break_constant(dataset: Path) -> None:
    save(dataset / "train_images" / "11.tif", np.full(SHAPE, 17, np.uint8))


def break_truncated(dataset: Path) -> None:
    path = dataset / "train_images" / "11.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def break_bit(dataset: Path) -> None:
    path = dataset / "train_images" / "11.tif"
    with tifffile.TiffFile(path) as file:
        middle = file.pages[5].dataoffsets[0] + 40
    content = bytearray(path.read_bytes())
    content[middle] ^= 16
    path.write_bytes(content)


def break_csv(dataset: Path, rows: str) -> None:
    (dataset / "train.csv").write_text(f"id,scroll_id\n{rows}")


PROBLEMS = {
    "no label": (
        lambda d: (d / "train_labels/11.tif").unlink(),
        ["11.tif has no label: expected", "train_labels/11.tif"],
    ),
    "no image": (lambda d: (d / "train_images/11.tif").unlink(), ["train_labels/11.tif has no image"]),
    "other shape": (
        lambda d: save(d / "train_labels/11.tif", volume(0)[1][1:]),
        ["has shape [19, 24, 28], its image has [20, 24, 28]"],
    ),
    "other dtype": (
        lambda d: save(d / "train_images/11.tif", volume(0)[0].astype(np.uint16) * 200),
        ["train_images/11.tif holds uint16, 2 of 3 images hold uint8"],
    ),
    "float image": (
        lambda d: save(d / "train_images/11.tif", volume(0)[0] / np.float32(255)),
        ["holds float32 values"],
    ),
    "NaN": (lambda d: save(d / "train_images/11.tif", np.full(SHAPE, np.nan, np.float32)), ["of them not finite"]),
    "float label": (
        lambda d: save(d / "train_labels/11.tif", volume(0)[1].astype(np.float32)),
        ["holds float32 values"],
    ),
    "undeclared": (
        break_undeclared,
        ["train_labels/11.tif holds the value 9 in 5 voxels", "declare it in dataset.yaml"],
    ),
    "all ignored": (break_all_ignored, ["train_labels/11.tif: every voxel is ignored"]),
    "constant": (break_constant, ["train_images/11.tif is constant (every voxel is 17)"]),
    "truncated": (break_truncated, ["train_images/11.tif is truncated"]),
    "flipped bit": (break_bit, ["train_images/11.tif is damaged: page 5 does not decode"]),
    "twice in csv": (lambda d: break_csv(d, "11,a\n12,a\n13,b\n12,b\n"), ["id 12 stands in 2 rows"]),
    "csv without file": (lambda d: break_csv(d, "11,a\n12,a\n13,b\n14,b\n"), ["id 14 has no file train_images/14.tif"]),
    "file without row": (lambda d: break_csv(d, "11,a\n12,a\n"), ["train_images/13.tif has no row in"]),
    "no scroll": (lambda d: break_csv(d, "11,a\n12,\n13,b\n"), ["id 12 has no scroll_id"]),
    "wrong columns": (
        lambda d: (d / "train.csv").write_text("case;scroll\n11;a\n"),
        ["has the columns ['case', 'scroll'], expected id and scroll_id"],
    ),
    "same id twice": (lambda d: save(d / "train_images/11.tiff", volume(0)[0]), ["are both of case 11"]),
    "train and test": (
        lambda d: save(d / "test_images/11.tif", volume(0)[0]),
        ["is in train_images and in test_images"],
    ),
    "no images": (lambda d: shutil.rmtree(d / "train_images"), ["train_images holds no TIFF volume"]),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_bad_data_set_is_refused_with_a_fix(dataset: Path, name: str) -> None:
    harm, messages = PROBLEMS[name]
    harm(dataset)
    error = refused(dataset)
    for message in messages:
        assert message in error


def test_all_problems_are_told_at_once(dataset: Path) -> None:
    for name in ("undeclared", "twice in csv"):
        PROBLEMS[name][0](dataset)
    save(dataset / "train_images" / "12.tif", np.zeros(SHAPE, np.uint8))
    save(dataset / "train_labels" / "13.tif", volume(2)[1][:, 1:])
    error = refused(dataset)
    assert "4 problems in the data set" in error
    for part in ("value 9", "12 stands in 2 rows", "12.tif is constant", "13.tif has shape"):
        assert part in error


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no TIFF volume" in refused(tmp_path / "empty")
    assert "is not a folder" in refused(tmp_path / "nowhere")


def test_without_a_table_one_scroll_is_assumed_and_stated(dataset: Path) -> None:
    (dataset / "train.csv").unlink()
    result = command("prepare", dataset, "--out", dataset.parent / "prepared")
    assert result.code == 0
    assert "there is no train.csv: all of its cases are taken to be of one scroll" in result.out


def test_same_images_under_two_names_are_noted(dataset: Path) -> None:
    shutil.copy(dataset / "train_images/11.tif", dataset / "train_images/12.tif")
    result = command("prepare", dataset, "--out", dataset.parent / "prepared")
    assert "cases 11, 12 have the same image file: in different folds they leak" in result.out


def test_a_folder_that_holds_something_else_is_refused(dataset: Path, tmp_path: Path) -> None:
    prepare(dataset, tmp_path / "prepared")
    other = write_dataset(tmp_path / "other", {"31": "c"})
    result = command("prepare", other, "--out", tmp_path / "prepared")
    assert result.code == 2
    assert "holds another data set" in result.error
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "was not written by prepare" in command("prepare", dataset, "--out", tmp_path / "full").error
    assert "own folder" in command("prepare", dataset, "--out", dataset).error


def test_an_interrupted_run_goes_on_where_it_stopped(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = dataset.parent / "prepared"
    real, packed = pack._pack, []

    def killed_at_the_second(source, *rest):  # type: ignore[no-untyped-def]
        if packed:
            raise KeyboardInterrupt
        packed.append(source.id)
        return real(source, *rest)

    monkeypatch.setattr(pack, "_pack", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, out)
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        PreparedDataset.open(out)

    def counted(source, *rest):  # type: ignore[no-untyped-def]
        packed.append(source.id)
        return real(source, *rest)

    monkeypatch.setattr(pack, "_pack", counted)
    resumed = prepare(dataset, out)
    assert sorted(packed) == ["11", "12", "13"]
    assert len(packed) == 3
    monkeypatch.undo()
    assert resumed.identity == prepare(dataset, dataset.parent / "at once").identity


def test_preparing_again_packs_nothing_and_follows_the_table(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = dataset.parent / "prepared"
    first = prepare(dataset, out)
    monkeypatch.setattr(pack, "_pack", lambda *_: pytest.fail("packed again"))
    assert prepare(dataset, out).identity == first.identity
    break_csv(dataset, "11,c\n12,a\n13,b\n")
    assert prepare(dataset, out).case("11").scroll_id == "c"


def test_new_meanings_pack_the_labels_again(dataset: Path) -> None:
    out = dataset.parent / "prepared"
    before = prepare(dataset, out)
    (dataset / "dataset.yaml").write_text("labels: {0: background, 1: surface, 2: background}\n")
    after = prepare(dataset, out)
    assert after.identity != before.identity
    assert int(np.asarray(after.label("11")).max()) == 1


def test_removed_cases_leave_nothing_behind(dataset: Path) -> None:
    out = dataset.parent / "prepared"
    prepare(dataset, out)
    (dataset / "train_images/13.tif").unlink()
    (dataset / "train_labels/13.tif").unlink()
    break_csv(dataset, "11,a\n12,a\n")
    prepare(dataset, out)
    assert not list(out.rglob("13.*"))


def test_a_changed_file_is_named_by_check_and_by_preparing_again(dataset: Path) -> None:
    out = dataset.parent / "prepared"
    before = prepare(dataset, out).identity
    assert command("prepare", dataset, "--out", out, "--check").code == 0
    image = volume(0)[0]
    image[0, 0, 0] ^= 1  # it decodes: nothing but the hash can tell
    save(dataset / "train_images" / "11.tif", image)
    for options in (["--check"], []):
        result = command("prepare", dataset, "--out", out, *options)
        assert result.code == 2
        assert "train_images/11.tif has changed since it was packed" in result.error
        assert "12.tif" not in result.error
    assert PreparedDataset.open(out).identity == before
    assert command("prepare", dataset, "--out", out, "--accept-changes").code == 0
    assert PreparedDataset.open(out).identity != before
    assert command("prepare", dataset, "--out", out, "--check").code == 0


def test_check_names_packed_files_that_changed_and_cases_that_came_or_went(dataset: Path) -> None:
    out = dataset.parent / "prepared"
    prepare(dataset, out)
    packed = out / "images" / "12.npy"
    content = bytearray(packed.read_bytes())
    content[-1] ^= 1
    packed.write_bytes(content)
    for part, array in zip(("train_images", "train_labels"), volume(9), strict=True):
        (dataset / part / "13.tif").rename(dataset / part / "14.tif")
        save(dataset / part / "14.tif", array)
    error = command("prepare", dataset, "--out", out, "--check").error
    assert "images/12.npy is not what prepare wrote" in error
    assert "case 13 is in the manifest" in error
    assert "case 14 is new" in error


def test_a_failed_update_leaves_no_manifest_that_lies(dataset: Path) -> None:
    """One case is packed anew, another one is bad: the old manifest must not describe the new arrays."""
    out = dataset.parent / "prepared"
    prepare(dataset, out)
    save(dataset / "train_images" / "11.tif", 255 - volume(0)[0])
    break_csv(dataset, "11,a\n12,a\n13,b\n99,b\n")
    assert command("prepare", dataset, "--out", out, "--accept-changes").code == 2
    with pytest.raises(UserError, match="is not a prepared data set"):
        PreparedDataset.open(out)


def test_opening_finds_missing_short_and_edited_files(dataset: Path) -> None:
    out = dataset.parent / "prepared"
    prepare(dataset, out)
    label = out / "labels" / "12.npy"
    content = label.read_bytes()
    label.write_bytes(content[:-1])
    with pytest.raises(UserError, match=rf"12\.npy has {len(content) - 1} bytes, expected {len(content)}"):
        PreparedDataset.open(out)
    label.unlink()
    with pytest.raises(UserError, match=r"12\.npy is missing"):
        PreparedDataset.open(out)
    prepare(dataset, out)
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["cases"][0]["scroll_id"] = "z"
    (out / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json is damaged: its content is not what was written"):
        PreparedDataset.open(out)
    (out / MANIFEST).write_text(json.dumps(manifest | {"version": 99}))
    with pytest.raises(UserError, match="format version 99"):
        PreparedDataset.open(out)
    (out / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        PreparedDataset.open(out)


def test_an_unknown_case_is_named(dataset: Path) -> None:
    prepared = prepare(dataset, dataset.parent / "prepared")
    with pytest.raises(UserError, match=r"case 99 is not in the data set .* it has 11, 12, 13"):
        prepared.case("99")


@pytest.mark.real_data
def test_real_scroll_geometry(semi: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "semi"
    for part in ("train_images", "train_labels"):
        (dataset / part).mkdir(parents=True)
        for case_id in ("175761", "857883"):
            shutil.copyfile(semi / part / f"{case_id}.tif", dataset / part / f"{case_id}.tif")
    (dataset / "train.csv").write_text("id,scroll_id\n175761,10001\n857883,10003\n")
    (dataset / "dataset.yaml").write_text(MEANINGS)
    prepared = prepare(dataset, tmp_path / "prepared", workers=2)
    for case in prepared.cases:
        np.testing.assert_array_equal(prepared.image(case.id), tifffile.imread(semi / case.image_source))
        np.testing.assert_array_equal(prepared.label(case.id), tifffile.imread(semi / str(case.label_source)))
        assert 0.04 < case.surface_voxels / case.voxels < 0.09
        assert 0.52 < 1 - case.valid_voxels / case.voxels < 0.71
        assert len(prepared.surface_positions(case.id)) == 200_000


@pytest.mark.real_data
def test_real_membranes(ovules: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "ovules"
    dataset.mkdir()
    for part in ("train_images", "train_labels"):
        shutil.copytree(ovules / part, dataset / part, copy_function=shutil.copyfile)
    shutil.copyfile(ovules / "train.csv", dataset / "train.csv")
    result = command("prepare", dataset, "--out", tmp_path / "prepared")
    assert result.code == 2
    assert "0: background" in result.error
    shutil.copyfile(tmp_path / "prepared" / "dataset.yaml.proposed", dataset / "dataset.yaml")
    assert command("prepare", dataset, "--out", tmp_path / "prepared").code == 0
    folds = command("folds", tmp_path / "prepared")
    assert "by volume: the labelled cases come from 1 scroll" in folds.out
    assert "3 folds instead of 5: there are only 3 volumes" in folds.out


def test_the_command_itself_ends_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from volumen.cli.main import run

    assert run(["prepare", str(tmp_path / "nowhere"), "--out", str(tmp_path / "prepared")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert run(["phantom", str(tmp_path / "phantom"), "--volumes", "2", "--size", "32"]) == 0
    assert run(["prepare", str(tmp_path / "phantom"), "--out", str(tmp_path / "prepared")]) == 0
    assert run(["folds", str(tmp_path / "prepared")]) == 0
    assert "2 folds instead of 5" in capsys.readouterr().out


def test_a_scroll_that_the_table_has_changed_is_said_once(dataset: Path) -> None:
    out = dataset.parent / "prepared"
    assert "scrolls have changed" not in command("prepare", dataset, "--out", out).out
    table = dataset / "train.csv"
    first, *rest = table.read_text().splitlines()
    case_id, scroll = rest[0].split(",")
    table.write_text("\n".join([first, f"{case_id},{scroll}9", *rest[1:]]) + "\n")
    assert f"scrolls have changed in the table since: {case_id} ('{scroll}', now '{scroll}9')" in " ".join(
        command("prepare", dataset, "--out", out).out.split()
    )
    assert "scrolls have changed" not in command("prepare", dataset, "--out", out).out
