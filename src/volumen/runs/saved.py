"""What a checkpoint has to hold: its format, its parts, and what the run that wrote it was trained on."""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from volumen.config.schema import Config
from volumen.data.emptiness import Declared
from volumen.errors import DamagedError, UserError
from volumen.system.records import typed

FORMAT = 2
_TRAIN_AGAIN = "train again, or use the volumen that made it"


@dataclass(frozen=True)
class TrainedOn:
    """What a run learns from and is judged by; in every one of its checkpoints."""

    dataset: str
    """Identity of the prepared data set."""
    fold: int
    train: tuple[str, ...]
    """Ids of the cases that it learns from."""
    validation: tuple[str, ...]
    """Ids of the cases that it holds out."""
    before: tuple[str, ...] = ()
    """Ids of the cases that its initial weights had learned from already."""
    empty: Declared = None
    """Grey values that the data set declares to be empty; None where they are found."""

    def to_state(self) -> dict[str, Any]:
        """Primitives for a checkpoint."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


NO_DATA = TrainedOn("", 0, (), ())
"""Of a state that no run is behind, such as one that the audit tries."""


def checked_state(state: dict[str, Any], name: object) -> tuple[Config, TrainedOn]:
    """Configuration and data of a checkpoint, which is of this format and has all its parts.

    Raises:
        DamagedError: It is of another format, lacks a part, or holds something else.
    """
    if state.get("format") != FORMAT:
        raise DamagedError(
            f"{name} is a checkpoint of format {state.get('format')!r:.40}, this volumen reads {FORMAT}: {_TRAIN_AGAIN}"
        )
    kinds: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(("model", "optimiser", "rate", "watch", "cursor", "totals", "data"), dict),
        **dict.fromkeys(("average", "swa", "scaler"), (dict, type(None))),
        **dict.fromkeys(("run", "config", "validated_weights"), str),
        "planned_steps": int,
        "seconds": float,
        "budget_seconds": (float, type(None)),
        "ended_epoch": bool,
        "random": Tensor,
        "random_cuda": list,
    }
    for key, kind in kinds.items():
        if not isinstance(state.get(key), kind):
            found = type(state.get(key)).__name__
            raise DamagedError(f"{name} is a damaged checkpoint: its {key} is {found}: {_TRAIN_AGAIN}")
    try:
        config = Config.model_validate_json(state["config"])
    except ValidationError as error:
        raise DamagedError(
            f"{name} was made by another volumen ({error.error_count()} settings differ): {_TRAIN_AGAIN}"
        ) from error
    data: TrainedOn = typed(state["data"], TrainedOn, name, _TRAIN_AGAIN)
    return config, data


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
