"""From a run's checkpoint to a network that predicts, with all that is known of what it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from volumen.config import diff_configs, override_config
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.models import build_model
from volumen.models.shapes import difference, tensors_of, without_pretraining
from volumen.system.output import note_once
from volumen.training.run_folder import open_run
from volumen.training.saved import TrainedOn, checked_state
from volumen.training.store import BEST, BEST_LOSS

OVERRIDABLE = ("inference", "postprocessing", "device", "precision")
WHICH = ("best", "best_loss", "last", "plain", "average", "swa")


@dataclass(frozen=True)
class Trained:
    """A run's network, ready to predict."""

    model: nn.Module
    config: Config
    """As it was trained, with overrides of prediction."""
    data: TrainedOn


def load_weights(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        UserError: They are another model's; names the first difference.
    """
    if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise UserError(f"{origin} is no checkpoint of this model: its weights are not all tensors; train again")
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
    """Network and configuration of what `load_trained` loads."""
    trained = load_trained(run, which, overrides)
    return trained.model, trained.config


def load_trained(run: Path, which: str = "best", overrides: Sequence[str] = ()) -> Trained:
    """A run's network, ready to predict.

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
    store = open_run(run).checkpoints
    warnings: list[str] = []
    marked = which in (BEST, BEST_LOSS)
    state = store.load_best(warnings.append, which) if marked else store.load_latest(warnings.append)
    skipped = [warning for warning in warnings if "trying the one before" in warning]
    if skipped and not marked:
        raise UserError("; ".join(skipped) + ": name `--which best` or train again")
    name = f"{run}/checkpoints"
    config, data = checked_state(state, name)
    if config.inference.empty == "auto" and data.empty is not None:
        inference = config.inference.model_copy(update={"empty": data.empty or "none"})
        config = config.model_copy(update={"inference": inference})
    found = {
        key: (tuple(tensor.shape), tensor.dtype) for key, tensor in state["model"].items() if isinstance(tensor, Tensor)
    }
    differing = difference(tensors_of(config.model, len(found)), found)
    if differing:  # before a network is built that the file does not hold
        raise UserError(f"{name} is a checkpoint of another model: {differing}; use the configuration it was made with")
    model = build_model(without_pretraining(config.model))
    load_weights(model, state["model"], name)
    chosen = state["validated_weights"] if marked or which == "last" else which
    if chosen != "plain":
        average = state.get(chosen)
        if not isinstance(average, dict) or not average.get("count"):
            raise UserError(f"{run} keeps no {chosen} weights: use --which best, last or plain")
        load_weights(model, {**state["model"], **average["weights"], **average["buffers"]}, name)
    model.eval()
    config = on_this_machine(config)
    return Trained(model, override_prediction(config, overrides, f"of {run}") if overrides else config, data)


def on_this_machine(config: Config) -> Config:
    """A trained configuration without what this machine lacks: weights of a card predict on a processor as well."""
    if (config.device != "cuda" and config.precision != "fp16") or torch.cuda.is_available():
        return config
    note_once("trained on a card, and this machine has none: it is computed on the processor")
    precision = "auto" if config.precision == "fp16" else config.precision
    return config.model_copy(update={"device": "auto", "precision": precision})


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
    keys = [each.key for each in diff_configs(config, changed)]
    fixed = [key for key in keys if key.split(".")[0] not in OVERRIDABLE]
    if fixed:
        raise UserError(
            f"{', '.join(fixed)} cannot change after training: override keys of {', '.join(OVERRIDABLE)} only"
        )
    return changed
