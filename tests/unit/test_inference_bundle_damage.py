"""A bundle is believed in nothing: of any damage, either the same masks come out or one line of a reason."""

import hashlib
import io
import json
import random
import resource
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.inference.bundle import Bundle, Member, read_bundle, write_bundle
from volumen.inference.ensemble import Ensemble
from volumen.models import build_model
from volumen.models.shapes import tensors_of
from volumen.system.records import sealed

MOST_BYTES = 300e6


def config(*overrides: str) -> Config:
    return load_config(
        "preset:default", ["model.filters=2", "model.depth=1", "data.patch=[8, 8, 8]", *overrides]
    ).config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("bundle") / "model.volumen"
    members = []
    for seed, share in ((0, 0.25), (1, 0.75)):
        torch.manual_seed(seed)
        members.append(Member(f"run{seed} (best)", config(), build_model(config().model).state_dict(), share))
    write_bundle(path, members, mean="probability", config=config(), labels={})
    return path.read_bytes()


def answer(bundle: Bundle) -> torch.Tensor:
    """All that a mask depends on, as numbers: what the networks say, and how it is turned into a mask."""
    torch.manual_seed(7)
    with torch.no_grad():
        said = bundle.model()(torch.randn(1, 1, 8, 8, 8))
    settings = bundle.config.model_dump_json(include={"data", "inference", "postprocessing", "precision"})
    digits = [float(byte) for byte in hashlib.sha256(settings.encode()).digest()]
    return torch.cat([said.flatten(), torch.tensor(digits)])


def parts(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def forged(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A bundle by somebody who knows how indexes are checked, and changes one."""
    members = parts(content)
    index = json.loads(members["bundle.json"])
    index.pop("check")
    change(index)
    return zipped({**members, "bundle.json": json.dumps(sealed(index)).encode()})


def with_weights(content: bytes, weights: bytes) -> bytes:
    members = parts(content) | {"weights/0.safetensors": weights}

    def change(index: dict[str, Any]) -> None:
        index["members"][0]["sha256"] = hashlib.sha256(weights).hexdigest()

    return forged(zipped(members), change)


def header_of(weights: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", weights[:8])
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


def with_header(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def without_first(header: dict[str, Any], name: str) -> dict[str, Any]:
    """The header without the tensor that lies first; the others move up."""
    lost = header[name]["data_offsets"][1]
    moved = {key: [place - lost for place in value["data_offsets"]] for key, value in header.items()}
    return {key: value | {"data_offsets": moved[key]} for key, value in header.items() if key != name}


def damage(content: bytes, seed: int) -> bytes:
    """One of many kinds of damage, anywhere."""
    chance = random.Random(seed)
    broken = bytearray(content)
    kind = seed % 10
    if kind < 4:  # a flipped bit: anywhere, and in the parts that are small beside the weights
        ends = [0, 200], [content.index(b'{"') - 100, content.index(b'{"') + 300], [len(content) - 400, len(content)]
        index = content.index(b'"format"')
        low, high = ([0, len(content)], *ends[:1], [index, len(content)], ends[2])[kind]
        broken[chance.randrange(max(0, low), min(high, len(content)))] ^= 1 << chance.randrange(8)
    elif kind == 4:
        del broken[chance.randrange(len(broken)) :]
    elif kind == 5:  # a block lost, doubled, zeroed or of noise
        start, size = chance.randrange(len(broken)), chance.choice([1, 16, 512, 4096])
        block = broken[start : start + size]
        broken[start : start + size] = chance.choice([b"", block * 2, bytes(len(block)), chance.randbytes(len(block))])
    elif kind == 6:
        broken += chance.randbytes(chance.choice([1, 22, 100])) if chance.random() < 0.5 else content
    elif kind == 7:  # digits in the index
        places = [place for place in range(content.index(b'"format"'), len(content)) if chr(content[place]).isdigit()]
        broken[chance.choice(places)] = ord(chance.choice("0123456789eE.-"))
    elif kind == 8:  # members that change places or names
        members = parts(content)
        names = list(members)
        chance.shuffle(names)
        hostile = [
            "../../victim",
            "/etc/passwd",
            "weights/-1.safetensors",
            "BUNDLE.JSON",
            "a\x1b[2Jb",
            "x" * 60000,
            "/",
        ]
        if chance.random() < 0.5:
            names[0] = chance.choice(hostile)
        return zipped(dict(zip(names, members.values(), strict=True)), chance.choice([0, 0, zipfile.ZIP_DEFLATED]))
    else:  # numbers of the archive's own records
        place = chance.choice([content.rindex(b"PK\x05\x06"), content.rindex(b"PK\x01\x02"), 0]) + chance.randrange(22)
        broken[place : place + 4] = struct.pack(
            "<L", chance.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, chance.getrandbits(32)])
        )
    return bytes(broken)


def test_of_a_thousand_damages_none_changes_a_mask_unheard(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.volumen"
    path.write_bytes(whole)
    expected = answer(read_bundle(path))
    silent, lines = [], set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(1000):
        path.write_bytes(damage(whole, seed))
        try:
            found = read_bundle(path)
        except UserError as error:
            lines.add(str(error))
            continue
        if not torch.equal(answer(found), expected):
            silent.append(seed)
    assert silent == []
    assert [line for line in lines if not line.isprintable() or str(path) not in line] == []
    assert len(lines) > 50  # the damages differ
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index.update(mean="median"), "mean"),
        (lambda index: index.update(extra=1), "extra"),
        (lambda index: index.update(members=[]), "members"),
        (lambda index: index.update(members=index["members"][:1]), "lists"),
        (lambda index: index["members"][0].update(file="weights/1.safetensors"), "lists"),
        (lambda index: index["members"][0].update(file="../../../etc/passwd"), "lists"),
        (lambda index: index["members"][0].update(share=-1.0), "not negative"),
        (lambda index: [one.update(share=0) for one in index["members"]], "not all 0"),
        (lambda index: [one.update(share=1e308) for one in index["members"]], "must be finite"),
        (lambda index: index["members"][0].update(share="0.5"), "share"),
        (lambda index: index["members"][0].update(share=True), "share"),
        (lambda index: index["members"][0].update(sha256="0" * 64), "not what was written"),
        (lambda index: index["members"][0]["config"]["model"].update(filters=512), "expected"),
        (lambda index: index["members"][0]["config"]["model"].update(filters=10**9), "another volumen"),
        (lambda index: index["members"][0]["config"]["model"].update(in_channels=10**15), "another volumen"),
        (lambda index: index["members"][0]["config"].update(training=3), "another volumen"),
        (lambda index: index["config"]["postprocessing"].update(steps=[]), "another volumen"),
        (lambda index: index.update(labels={"labels": {"1": "gold"}, "spacing_um": None, "description": ""}), "labels"),
        (lambda index: index.update(format="2"), "format 2"),
    ],
)
def test_an_index_by_somebody_else_is_typed(whole: bytes, tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "model.volumen"
    path.write_bytes(forged(whole, change))
    with pytest.raises(UserError, match=said):
        read_bundle(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none_are_refused(whole: bytes, tmp_path: Path, number: str) -> None:
    path = tmp_path / "model.volumen"
    members = parts(whole)
    index = members["bundle.json"].replace(b'"share": 0.25', b'"share": ' + number.encode())
    path.write_bytes(zipped({**members, "bundle.json": index}))
    with pytest.raises(UserError, match="damaged"):
        read_bundle(path)


def test_a_deep_or_huge_index_costs_nothing(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.volumen"
    bombs = {
        "nested": b"[" * 10**5,
        "wide": b"[" + b"{}," * 10**5 + b"{}]",
        "larger": b" " * 5 * 10**6,
        "objects": b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
    }
    for name, bomb in bombs.items():
        path.write_bytes(zipped({**parts(whole), "bundle.json": bomb}))
        tracemalloc.start()
        with pytest.raises(UserError):
            read_bundle(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES, name


def test_what_was_packed_is_never_unpacked(whole: bytes, tmp_path: Path) -> None:
    """A few megabytes of zip hold gigabytes: they are refused by their header."""
    path = tmp_path / "model.volumen"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bundle.json", "w") as stream:
        for _ in range(64):
            stream.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(UserError, match="is compressed"):
        read_bundle(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_archives_that_lie_are_one_line(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.volumen"
    members = parts(whole)
    twice = bytearray(whole)
    for place in (whole.rindex(b"weights/1"), whole.index(b"weights/1")):
        twice[place : place + 9] = b"weights/0"
    encrypted = bytearray(whole)
    for place in (whole.index(b"PK\x01\x02") + 8, 6):
        encrypted[place] |= 1
    unknown = bytearray(whole)
    for place in (whole.index(b"PK\x01\x02") + 10, 8):
        unknown[place] = 99
    other = bytearray(whole)
    other[30:38] = b"weightz/"  # in front of the first member, and not in the directory
    in_front = b"#!/bin/sh\n" + whole
    with_comment = io.BytesIO(whole)
    with zipfile.ZipFile(with_comment, "a") as archive:
        archive.comment = b"hello"
    lies = {
        "second time": bytes(twice),
        "encrypted": bytes(encrypted),
        "is compressed": bytes(unknown),
        "one thing in front": bytes(other),
        "expected 0": in_front,
        "something behind it": with_comment.getvalue(),
        "no bundle does": zipped({**members, "notes.txt": b"x"}),
        "lists": zipped({name: content for name, content in members.items() if name != "weights/1.safetensors"}),
        "needs a bundle.json": zipped({name: content for name, content in members.items() if name != "bundle.json"}),
        "expected 2 to 257": zipped({}),
    }
    for said, content in lies.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_bundle(path)


def test_large_archives_have_other_headers_and_are_read(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.volumen"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts(whole).items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as stream:
                stream.write(content)
    expected = tmp_path / "plain.volumen"
    expected.write_bytes(whole)
    assert torch.equal(answer(read_bundle(path)), answer(read_bundle(expected)))


def test_weights_are_compared_with_their_network_before_either_is_made(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.volumen"
    header, data = header_of(parts(whole)["weights/0.safetensors"])
    name = min(header, key=lambda one: header[one]["data_offsets"])
    first = header[name]
    wrong = [
        header | {name: first | {"shape": [10**12, 3]}},
        header | {name: first | {"shape": [10**40]}},
        header | {name: first | {"data_offsets": [0, -1]}},
        header | {name: first | {"dtype": "F4"}},
        header | {name: first | {"dtype": "F8_E4M3"}},
        [],
    ]
    headers = [with_header(json.dumps(one).encode(), data) for one in wrong]
    lost = json.dumps(without_first(header, name)).encode()
    for weights, said in (
        *((one, r"weights/0\.safetensors: ") for one in headers),
        (with_header(lost, data[first["data_offsets"][1] :]), f"{name} is missing"),
        (b"", r"weights/0\.safetensors: "),
        (struct.pack("<Q", 2**63) + data, r"weights/0\.safetensors: "),
        (with_header(b"[" * 10**6, data), r"weights/0\.safetensors: "),
        (save({"only": torch.zeros(3)}), "not the weights"),
    ):
        path.write_bytes(with_weights(whole, weights))
        with pytest.raises(UserError, match=said) as error:
            read_bundle(path)
        assert str(error.value).isprintable()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_when_written_and_when_read(
    whole: bytes, tmp_path: Path, value: float
) -> None:
    path = tmp_path / "model.volumen"
    weights = {name: tensor.clone() for name, tensor in build_model(config().model).state_dict().items()}
    next(iter(weights.values())).view(-1)[3] = value
    with pytest.raises(UserError, match="not finite"):
        write_bundle(path, [Member("run", config(), weights, 1.0)], mean="logit", config=config(), labels={})
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(with_weights(whole, save(weights)))
    with pytest.raises(UserError, match="not finite"):
        read_bundle(path)


@pytest.mark.parametrize(
    "settings",
    [
        "{kind: unet, filters: 3, depth: 2}",
        "{kind: resenc, size: S}",
        "{kind: monai, name: SegResNet}",
        "{kind: monai, name: SwinUNETR, arguments: {feature_size: 12}}",
        "{kind: monai, name: UNet, arguments: {channels: [4, 8], strides: [2], norm: batch}}",
    ],
)
def test_shapes_without_memory_are_those_of_the_network(settings: str) -> None:
    if "monai" in settings:
        pytest.importorskip("monai.networks.nets", reason="the extra monai is not installed")
    model = load_config("preset:default", [f"model={settings}"]).config.model
    real = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in build_model(model).state_dict().items()}
    assert tensors_of(model) == real


def test_networks_that_no_machine_holds_are_looked_at_without_one() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shapes = tensors_of(config("model.filters=128", "model.depth=5", "data.patch=[32, 32, 32]").model)
    assert sum(torch.Size(shape).numel() for shape, _ in shapes.values()) > 10**9
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


def test_arguments_of_somebody_else_s_networks_have_bounds() -> None:
    pytest.importorskip("monai.networks.nets", reason="the extra monai is not installed")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for settings, said in (
        ("{kind: monai, name: UNet, arguments: {channels: [4, 8], strides: [2], num_res_units: 99999}}", "more parts"),
        ("{kind: monai, name: SwinUNETR, arguments: {depths: [99999, 2, 2, 2]}}", "loop"),
        ("{kind: monai, name: SegResNet, arguments: {init_filters: 1000000000}}", "at most 100000"),
        ("{kind: monai, name: SegResNet, arguments: {nonsense: 3}}", "does not take"),
        ("{kind: monai, name: nonsense}", "no network"),
    ):
        model = load_config("preset:default", [f"model={settings}"]).config.model
        with pytest.raises(UserError, match=said):
            tensors_of(model, 300)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


@pytest.mark.parametrize("weights", [[float("nan")], [float("inf"), 1.0], [-1.0, 2.0], [0.0, 0.0], [1e308, 1e308]])
def test_weights_that_make_no_mean_are_refused_by_one_sentence(tmp_path: Path, weights: list[float]) -> None:
    network = build_model(config().model)
    members = [Member("run", config(), network.state_dict(), weight) for weight in weights]
    sentence = "must be finite, not negative, and not all 0"
    with pytest.raises(UserError, match=sentence):
        write_bundle(tmp_path / "x.volumen", members, mean="logit", config=config(), labels={})
    with pytest.raises(UserError, match=sentence):
        Ensemble([network] * len(weights), weights)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_shown_without_what_steers_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "model.volumen"
    member = Member("run\x1b[2J\n(best)", config(), build_model(config().model).state_dict(), 1.0)
    made = write_bundle(path, [member], mean="logit", config=config(), labels={})
    assert made.members[0].name == r"run\x1b[2J\n(best)"
