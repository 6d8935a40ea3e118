"""Checkpoints: written whole or not at all, verified when read.

A checkpoint holds tensors and primitives only and is read with `weights_only=True`, so that opening one never runs
code. It is written to a temporary file, flushed to disk, hashed and renamed; `manifest.json` lists what is whole. A
file whose hash differs is skipped, loudly, for the one before it.
"""

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volumen.config import diff_configs, override_config
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.files import atomic_path, sha256_of, write_atomically
from volumen.models import build_model

KEEP_LATEST = 2
OVERRIDABLE = ("inference", "postprocessing", "device", "precision")
WHICH = ("best", "best_loss", "last", "plain", "average", "swa")
BEST, BEST_LOSS = "best", "best_loss"


@dataclass(frozen=True)
class Entry:
    """A checkpoint file as the manifest knows it."""

    file: str
    sha256: str
    step: int
    epoch: int


class CheckpointStore:
    """The checkpoints of one run: the last two, the best by the selection metric, and the best by validation loss.

    The last one is kept to be compared with (`volumen select`); nothing is ever chosen by it.

    Args:
        folder: `checkpoints/` of the run; made when the first checkpoint is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any], *, step: int, epoch: int, best: bool, best_loss: bool = False) -> Path:
        """Write a state, list it, and drop the oldest beyond the last two; `best` also keeps it as `best.pt`,
        `best_loss` as `best_loss.pt`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.pt"
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
            digest = sha256_of(temporary)
        latest, kept = self._manifest()
        entry = Entry(path.name, digest, step, epoch)
        latest = [*(other for other in latest if other.file != path.name), entry]
        for name, wanted in ((BEST, best), (BEST_LOSS, best_loss)):
            if wanted:
                with atomic_path(self.folder / f"{name}.pt") as temporary:
                    temporary.unlink(missing_ok=True)
                    _link_or_copy(path, temporary)
                kept[name] = Entry(f"{name}.pt", digest, step, epoch)
        self._write_manifest(latest[-KEEP_LATEST:], kept)
        for old in latest[:-KEEP_LATEST]:
            (self.folder / old.file).unlink(missing_ok=True)
        return path

    def load_latest(self, warn: Callable[[str], None]) -> dict[str, Any]:
        """The newest whole checkpoint.

        Args:
            warn: Told about each damaged file that is passed over.

        Raises:
            UserError: There is no whole checkpoint.
        """
        latest, kept = self._manifest()
        for entry in [*reversed(latest), *([kept[BEST]] if BEST in kept else [])]:
            state = self._read(entry, warn)
            if state is not None:
                return state
        raise UserError(
            f"{self.folder} holds no whole checkpoint to resume from: start the run anew in another folder with --out"
        )

    def load_best(self, warn: Callable[[str], None], name: str = BEST) -> dict[str, Any]:
        """The checkpoint with the best selection metric, or with the least validation loss (`best_loss`).

        Raises:
            UserError: There is none yet, or it is damaged.
        """
        entry = self._manifest()[1].get(name)
        state = self._read(entry, warn) if entry else None
        if state is None:
            raise UserError(f"{self.folder} holds no whole {name} checkpoint: use --which last")
        return state

    def has_best(self) -> bool:
        """Whether a best checkpoint is listed."""
        return BEST in self._manifest()[1]

    def _read(self, entry: Entry, warn: Callable[[str], None]) -> dict[str, Any] | None:
        path = self.folder / entry.file
        if not path.is_file():
            warn(f"checkpoint {path} is gone; trying the one before it")
            return None
        content = path.read_bytes()
        if sha256_of(path) != entry.sha256:
            warn(f"checkpoint {path} is damaged (its SHA-256 is not the recorded one); trying the one before it")
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return state

    def _manifest(self) -> tuple[list[Entry], dict[str, Entry]]:
        """The last checkpoints, and the best ones by name."""
        path = self.folder / "manifest.json"
        if not path.is_file():
            return [], {}
        content = json.loads(path.read_text())
        kept = {name: Entry(**content[name]) for name in (BEST, BEST_LOSS) if content.get(name)}
        return [Entry(**entry) for entry in content["latest"]], kept

    def _write_manifest(self, latest: list[Entry], kept: dict[str, Entry]) -> None:
        content: dict[str, Any] = {"latest": [vars(entry) for entry in latest]}
        content |= {name: vars(kept[name]) if name in kept else None for name in (BEST, BEST_LOSS)}
        write_atomically(self.folder / "manifest.json", json.dumps(content, indent=2) + "\n")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def load_weights(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        UserError: They are another model's; names the first difference.
    """
    own = model.state_dict()
    missing, extra = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    if missing or extra:
        example = f"it lacks {missing[0]}" if missing else f"it has {extra[0]} besides"
        raise UserError(f"{origin} is a checkpoint of another model: {example}; use the configuration it was made with")
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            raise UserError(
                f"{origin} is a checkpoint of another model: {name} has shape {list(weights[name].shape)}, "
                f"expected {list(tensor.shape)}; use the configuration it was made with"
            )
    model.load_state_dict(weights)


def load_for_inference(run: Path, which: str = "best", overrides: Sequence[str] = ()) -> tuple[nn.Module, Config]:
    """A run's model, ready to predict.

    Args:
        run: A run folder.
        which: `best` (by the selection metric), `best_loss` (by the validation loss) and `last` give the weights that
            were validated then: the moving average where the run keeps one. `plain`, `average` and `swa` give those
            weights of the last checkpoint.
        overrides: `key=value` for keys of `inference`, `postprocessing`, `device` and `precision`.

    Raises:
        UserError: No run folder, no such checkpoint, no such weights, or an override of what was trained.
    """
    if which not in WHICH:
        raise UserError(f"there is no checkpoint {which!r}: choose one of {', '.join(WHICH)}")
    if not (run / "config.yaml").is_file():
        raise UserError(
            f"{run} is not a run folder (it has no config.yaml): give the folder that `volumen train` printed"
        )
    store = CheckpointStore(run / "checkpoints")
    warnings: list[str] = []
    marked = which in (BEST, BEST_LOSS)
    state = store.load_best(warnings.append, which) if marked else store.load_latest(warnings.append)
    if warnings and not marked:
        raise UserError("; ".join(warnings) + ": name `--which best` or train again")
    config = Config.model_validate_json(state["config"])
    model = build_model(config.model)
    load_weights(model, state["model"], f"{run}/checkpoints")
    chosen = state["validated_weights"] if marked or which == "last" else which
    if chosen != "plain":
        average = state[chosen]
        if average is None or average["count"] == 0:
            raise UserError(f"{run} keeps no {chosen} weights: use --which best, last or plain")
        model.load_state_dict({**state["model"], **average["weights"], **average["buffers"]})
    model.eval()
    return model, override_prediction(config, overrides, f"of {run}") if overrides else config


def override_prediction(config: Config, overrides: Sequence[str], source: str) -> Config:
    """A trained configuration with other settings of prediction, and of nothing else.

    Args:
        config: As it was trained.
        overrides: `key=value` for keys of `inference`, `postprocessing`, `device` and `precision`.
        source: What to call the configuration in errors.

    Raises:
        UserError: An override that cannot be read, or one of what was trained.
    """
    changed = override_config(config, overrides, source).config
    keys = [difference.key for difference in diff_configs(config, changed)]
    fixed = [key for key in keys if key.split(".")[0] not in OVERRIDABLE]
    if fixed:
        raise UserError(
            f"{', '.join(fixed)} cannot change after training: override keys of {', '.join(OVERRIDABLE)} only"
        )
    return changed
