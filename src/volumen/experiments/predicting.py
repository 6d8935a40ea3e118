"""Ready to predict: a predictor from a run's folder or from a bundle, by one way for every command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.normalise import Method, Normalised
from volumen.errors import UserError
from volumen.inference import Predictor, choose_engine
from volumen.inference.bundle import SUFFIX, read_bundle
from volumen.inference.prediction_record import Origin
from volumen.inference.tile_memory import check_tile
from volumen.runtime import choose_device, choose_precision
from volumen.training.checkpoint import load_for_inference, on_this_machine, override_prediction

DEFAULT_WHICH = "best"


@dataclass(frozen=True)
class Opened:
    """Networks and all that turns their answers into masks."""

    predictor: Predictor
    config: Config
    """How to normalise and to post-process; overrides are in it."""
    origin: Origin
    """What made the weights, for the record; the same weights under another file name have the same."""


def predictor_for(
    model: nn.Module,
    config: Config,
    *,
    tile: tuple[int, int, int] | None = None,
    overlap: float | None = None,
    mirror: bool | None = None,
    rotate: bool | None = None,
    processes: int = 1,
) -> Predictor:
    """A predictor as a configuration wants it.

    Args:
        model: Gives logits [B, 1, Z, Y, X].
        config: Device, precision, tile, overlap, mirroring.
        tile: Instead of the configured one, voxels z y x.
        overlap: Instead of the configured one, share of a tile.
        mirror: Instead of the configured choice.
        rotate: Instead of the configured choice.
        processes: How many of it share the machine's memory.

    Raises:
        UserError: A device or an engine that is not there, tiles that do not suit the model, or that do not fit into
            memory.
    """
    device = choose_device(config.device)
    predictor = Predictor(
        model,
        tile=tile or config.tile,
        overlap=config.inference.overlap if overlap is None else overlap,
        device=device,
        precision=choose_precision(config.precision, device),
        mirror=config.inference.mirror if mirror is None else mirror,
        rotate=config.inference.rotate if rotate is None else rotate,
        engine=choose_engine(config.inference.engine, device),
    )
    check_tile(predictor, processes)
    return predictor


def open_predictor(
    source: Path,
    *,
    which: str = DEFAULT_WHICH,
    overrides: Sequence[str] = (),
    tile: tuple[int, int, int] | None = None,
    overlap: float | None = None,
    mirror: bool | None = None,
    rotate: bool | None = None,
    processes: int = 1,
) -> Opened:
    """Open a run or a bundle for prediction.

    Args:
        source: A run folder, or a bundle file.
        which: Which weights of a run, as in `load_for_inference`; a bundle holds the ones it was made of.
        overrides: `key=value` for keys of `inference`, `postprocessing`, `device` and `precision`.
        tile: Instead of the configured one, voxels z y x.
        overlap: Instead of the configured one, share of a tile.
        mirror: Instead of the configured choice.
        rotate: Instead of the configured choice.
        processes: How many processes will open it, and share the machine's memory.

    Raises:
        UserError: Neither a run nor a bundle, a damaged one, weights that are not there, or settings that do not suit.
    """
    is_bundle = source.suffix == SUFFIX if not source.exists() else source.is_file()
    if is_bundle:
        if which != DEFAULT_WHICH:
            raise UserError(
                f"--which {which} does not go with the bundle {source}: its weights were chosen when it was made; "
                "leave --which out, or give the run folder"
            )
        bundle = read_bundle(source)
        model, config = bundle.model(), on_this_machine(bundle.config)
        if overrides:
            config = override_prediction(config, overrides, f"of {source}")
    else:
        model, config = load_for_inference(source, which, overrides)
    predictor = predictor_for(
        model, config, tile=tile, overlap=overlap, mirror=mirror, rotate=rotate, processes=processes
    )
    origin = Origin(
        run=None if is_bundle else source.name,
        which=None if is_bundle else which,
        bundle=bundle.identity if is_bundle else None,
        members=tuple(member.name for member in bundle.members) if is_bundle else None,
        precision=predictor.precision.name,
        engine=predictor.engine_name,
    )
    return Opened(predictor, config, origin)


def predictor_of(make: Callable[[], Opened]) -> Predictor:
    """The predictor alone of what `open_predictor` opens, for processes of their own."""
    return make().predictor


def predict_case(
    predictor: Predictor,
    dataset: PreparedDataset,
    case_id: str,
    normalisation: Method,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Probabilities float32 [Z, Y, X] of a prepared volume; what its scan left empty is background.

    Args:
        predictor: Model and tiles.
        dataset: Prepared volumes.
        case_id: Which.
        normalisation: As in training.
        progress: Told how many of how many tiles are done.
    """
    image = np.asarray(dataset.image(case_id))
    normalised = Normalised(image, dataset.case(case_id).statistics, normalisation)
    return predictor.probabilities(normalised, dataset.scan(case_id), progress)
