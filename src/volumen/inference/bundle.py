"""A bundle: everything that a prediction needs, in one file.

`model.volumen` is a zip archive, stored without compression: `bundle.json` says what is in it, with its own check;
`weights/N.safetensors` hold the networks, each with its SHA-256 in the index. Nothing in it is code, and opening one
runs none. Whatever can be known is checked before anything is allocated: the archive (`container`), the index, and the
shapes of the weights against those of the network (`weights`).
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import Field, ValidationError
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from volumen import __version__
from volumen.config.base import Section
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.files import atomic_path
from volumen.inference.container import ContainerError, Span, read_span, spans_of
from volumen.inference.ensemble import Ensemble, Mean, check_weights
from volumen.inference.weights import WeightsError, check_header, header_bytes, read_weights
from volumen.models import build_model
from volumen.models.shapes import without_pretraining
from volumen.system.memory import available_bytes
from volumen.system.names import one_line
from volumen.system.places import writable_file
from volumen.system.records import open_record, sealed, typed

FORMAT_VERSION = 2
INDEX = "bundle.json"
SUFFIX = ".volumen"
LARGEST_INDEX = 4 * 2**20
MOST_NETWORKS = 256
_WEIGHTS = re.compile(r"weights/(0|[1-9]\d{0,2})\.safetensors")
_FIX = "copy it again, or bundle the runs again"
Text = Annotated[str, Field(max_length=1000)]


@dataclass(frozen=True)
class Member:
    """One network of a bundle."""

    name: str
    """The run it comes from, and which of its weights."""
    config: Config
    weights: Mapping[str, Tensor]
    share: float
    """Its weight in the mean."""


@dataclass(frozen=True)
class Bundle:
    """What a bundle file holds."""

    members: tuple[Member, ...]
    mean: Mean
    config: Config
    """How to predict: normalisation, tile, overlap and post-processing; the first member's, unless it was changed."""
    labels: Mapping[str, Any]
    """What the label values of the training data meant; empty where nobody knew."""
    identity: str
    """SHA-256 of what `bundle.json` says."""

    def model(self) -> nn.Module:
        """The network, or the mean of several, ready to predict."""
        networks = []
        for member in self.members:
            network = build_model(without_pretraining(member.config.model))
            network.load_state_dict(dict(member.weights))
            networks.append(network.eval())
        if len(networks) == 1:
            return networks[0]
        return Ensemble(networks, [member.share for member in self.members], self.mean).eval()


class _Labels(Section):
    labels: dict[
        Annotated[str, Field(pattern=r"^(others|-?\d{1,20}( ?- ?-?\d{1,20})?)$")],
        Literal["background", "surface", "ignore"],
    ]
    spacing_um: tuple[float, float, float] | None
    description: str
    empty: tuple[int, ...] | None


class _MemberRecord(Section):
    name: Text
    share: float
    config: dict[str, Any]
    file: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Index(Section):
    format: Literal[2]
    volumen: Text
    mean: Mean
    config: dict[str, Any]
    labels: _Labels | None
    members: Annotated[list[_MemberRecord], Field(min_length=1, max_length=MOST_NETWORKS)]


def write_bundle(
    path: Path, members: Sequence[Member], *, mean: Mean, config: Config, labels: Mapping[str, Any]
) -> Bundle:
    """Write a bundle, whole or not at all, and read it back before it takes its place.

    Args:
        path: The file; one that exists is replaced.
        members: The networks.
        mean: How their answers are averaged.
        config: How to predict.
        labels: What the label values meant; empty where nobody knows.

    Returns:
        What was read back.

    Raises:
        UserError: No member, weights that make no mean or are not finite, members that were trained on differently
            normalised images, or a place that cannot be written to.
        OSError: The disk is full.
    """
    if not members:
        raise UserError("a bundle needs at least one run")
    check_weights([member.share for member in members])
    kinds = {member.config.data.normalisation for member in members}
    if len(kinds) > 1:
        raise UserError(
            f"the runs normalise their images differently ({', '.join(sorted(kinds))}): one bundle needs one way, "
            "bundle them apart"
        )
    writable_file(path)
    index: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "volumen": __version__,
        "mean": mean,
        "config": config.model_dump(mode="json"),
        "labels": dict(labels) or None,
        "members": [],
    }
    with atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for number, member in enumerate(members):
                content = write_tensors({name: tensor.contiguous() for name, tensor in member.weights.items()})
                file = f"weights/{number}.safetensors"
                index["members"].append(
                    {
                        "name": member.name,
                        "share": member.share,
                        "config": member.config.model_dump(mode="json"),
                        "file": file,
                        "sha256": hashlib.sha256(content).hexdigest(),
                    }
                )
                archive.writestr(file, content)
            archive.writestr(INDEX, json.dumps(sealed(index), indent=1))
        return _read(temporary, path)


def read_bundle(path: Path) -> Bundle:
    """Open a bundle and check every part of it.

    Raises:
        UserError: No such file, no bundle, a bundle of another version, a damaged one, or one that is too large for
            this machine's memory.
    """
    if not path.is_file():
        raise UserError(f"there is no bundle {path}: `volumen bundle RUNS... --out {path}` makes one")
    return _read(path, path)


def _read(path: Path, name: Path) -> Bundle:
    """Read a file; errors call it `name`."""
    try:
        with path.open("rb") as stream:
            spans = spans_of(stream, lambda member: member == INDEX or _WEIGHTS.fullmatch(member) is not None)
            index, identity = _index(stream, spans, name)
            files = [record.file for record in index.members]
            if {INDEX, *files} != set(spans) or len(set(files)) != len(files):
                raise ContainerError("does not hold the weights that its index lists")
            configs = [_config(record.config, name) for record in index.members]
            _check_memory(spans, name)
            for record, config in zip(index.members, configs, strict=True):
                _check_weights_of(stream, spans[record.file], record, config)
            members = tuple(
                Member(one_line(record.name), config, _weights(stream, spans[record.file], record), record.share)
                for record, config in zip(index.members, configs, strict=True)
            )
    except ContainerError as error:
        raise UserError(f"{name} is no bundle, or a damaged one (it {error}): {_FIX}") from error
    except WeightsError as error:
        raise UserError(
            f"{name} cannot be used: {error}: {_FIX} (from another checkpoint, --which, if this one has diverged)"
        ) from error
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): {_FIX}") from error
    labels = {} if index.labels is None else index.labels.model_dump(mode="json")
    return Bundle(members, index.mean, _config(index.config, name), labels, identity)


def _index(stream: BinaryIO, spans: Mapping[str, Span], name: Path) -> tuple[_Index, str]:
    """What the bundle says about itself, and the hash of it."""
    span = spans.get(INDEX)
    if span is None or span.size > LARGEST_INDEX:
        what = "none" if span is None else f"one of {span.size} bytes, at most {LARGEST_INDEX} are expected"
        raise ContainerError(f"needs a {INDEX}, and has {what}")
    record = open_record(read_span(stream, span), f"{name} is no bundle, or its {INDEX}", _FIX)
    if record.get("format") != FORMAT_VERSION:
        said = [one_line(str(record.get(key)), 40) for key in ("format", "volumen")]
        raise UserError(
            f"{name} is a bundle of format {said[0]}, this volumen reads {FORMAT_VERSION}: bundle "
            f"the runs again, or use volumen {said[1]}"
        )
    index = typed(record, _Index, f"{name}: {INDEX}", _FIX)
    try:
        check_weights([member.share for member in index.members])
    except UserError as error:
        raise WeightsError(str(error)) from error
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return index, hashlib.sha256(canonical.encode()).hexdigest()


def _config(values: Mapping[str, Any], name: Path) -> Config:
    try:
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(
            f"{name} was made by another volumen ({error.error_count()} settings differ): bundle the runs again"
        ) from error


def _check_memory(spans: Mapping[str, Span], name: Path) -> None:
    """Weights are in memory twice while the networks are made."""
    needed, available = 2 * sum(span.size for span in spans.values()), available_bytes()
    if needed > available:
        raise UserError(
            f"{name} needs {needed / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are available: close other "
            "programs, or bundle fewer runs"
        )


def _check_weights_of(stream: BinaryIO, span: Span, record: _MemberRecord, config: Config) -> None:
    """The shapes of weights against the network's, before either is made."""
    try:
        length = header_bytes(read_span(stream, Span(span.start, min(8, span.size))), span.size)
        check_header(read_span(stream, Span(span.start + 8, length)), span.size, config.model)
    except (WeightsError, UserError) as error:
        raise WeightsError(f"{record.file}: {error}") from error


def _weights(stream: BinaryIO, span: Span, record: _MemberRecord) -> dict[str, Tensor]:
    content = read_span(stream, span)
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise ContainerError(f"is damaged: {record.file} is not what was written")
    try:
        return read_weights(content)
    except WeightsError as error:
        raise WeightsError(f"{record.file}: {error}") from error
