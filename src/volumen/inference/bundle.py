"""A bundle: everything that a prediction needs, in one file.

`model.volumen` is a zip archive, stored without compression: `bundle.json` says what is in it, `weights/N.safetensors`
hold the networks. Nothing in it is code, and opening one runs none. Every part is checked against its SHA-256.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from volumen import __version__
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.files import atomic_path
from volumen.inference.ensemble import Ensemble, Mean
from volumen.models import build_model

FORMAT_VERSION = 1
INDEX = "bundle.json"
SUFFIX = ".volumen"


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
    """What the label values of the training data meant."""
    identity: str
    """SHA-256 of `bundle.json`."""

    def model(self) -> nn.Module:
        """The network, or the mean of several, ready to predict."""
        networks = []
        for member in self.members:
            network = build_model(member.config.model)
            network.load_state_dict(dict(member.weights))
            networks.append(network.eval())
        if len(networks) == 1:
            return networks[0]
        return Ensemble(networks, [member.share for member in self.members], self.mean).eval()


def write_bundle(
    path: Path, members: Sequence[Member], *, mean: Mean, config: Config, labels: Mapping[str, Any]
) -> None:
    """Write a bundle, whole or not at all.

    Args:
        path: The file; one that exists is replaced.
        members: The networks.
        mean: How their answers are averaged.
        config: How to predict.
        labels: What the label values meant.

    Raises:
        UserError: No member, or members that were trained on differently normalised images.
    """
    if not members:
        raise UserError("a bundle needs at least one run")
    kinds = {member.config.data.normalisation for member in members}
    if len(kinds) > 1:
        raise UserError(
            f"the runs normalise their images differently ({', '.join(sorted(kinds))}): one bundle needs one way, "
            "bundle them apart"
        )
    index: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "volumen": __version__,
        "mean": mean,
        "config": config.model_dump(mode="json"),
        "labels": dict(labels),
        "members": [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
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
        archive.writestr(INDEX, json.dumps(index, indent=1))


def read_bundle(path: Path) -> Bundle:
    """Open a bundle and check every part of it.

    Raises:
        UserError: No such file, no bundle, a bundle of another version, or a damaged one.
    """
    if not path.is_file():
        raise UserError(f"there is no bundle {path}: `volumen bundle RUNS... --out {path}` makes one")
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(INDEX)
            index = json.loads(text)
            if index["format"] != FORMAT_VERSION:
                raise UserError(
                    f"{path} is a bundle of format {index['format']}, this volumen reads {FORMAT_VERSION}: bundle the "
                    f"runs again, or use volumen {index['volumen']}"
                )
            members = tuple(_member(archive, record, path) for record in index["members"])
        config = Config.model_validate_json(json.dumps(index["config"]))
        identity = hashlib.sha256(text).hexdigest()
        return Bundle(members, index["mean"], config, index["labels"], identity)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, SafetensorError, EOFError, OSError) as error:
        if isinstance(error, ValidationError):
            raise UserError(f"{path} was made by another volumen ({error.error_count()} settings differ)") from error
        raise UserError(f"{path} is no bundle, or a damaged one ({error}): copy it or bundle the runs again") from error


def _member(archive: zipfile.ZipFile, record: Mapping[str, Any], path: Path) -> Member:
    content = archive.read(record["file"])
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise UserError(
            f"{path} is damaged: {record['file']} is not what was written; copy it or bundle the runs again"
        )
    config = Config.model_validate_json(json.dumps(record["config"]))
    return Member(record["name"], config, read_tensors(content), float(record["share"]))
