"""How an image becomes a mask: one way for validation, evaluation, prediction, tuning, ensembles and submissions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from volumen.config.postprocessing import Postprocessing, with_threshold
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.emptiness import Declared
from volumen.data.normalise import IntensityStatistics, Method, Normalised
from volumen.errors import UserError
from volumen.files import strict_json
from volumen.inference.bundle import SUFFIX, read_bundle
from volumen.inference.engines import choose_engine
from volumen.inference.prediction_record import Origin, Settings
from volumen.inference.predictor import Predictor, weights_identity
from volumen.inference.tile_memory import check_tile
from volumen.postprocess import apply_pipeline
from volumen.runs.run import Run, on_this_machine, override_prediction
from volumen.runtime import Precision, choose_device, choose_precision
from volumen.system.output import Tally

DEFAULT_WHICH = "best"
NOBODY = Origin()


def predictor_of(
    model: nn.Module,
    config: Config,
    device: torch.device,
    precision: Precision,
    engine: Literal["torch", "openvino"] = "torch",
) -> Predictor:
    """A predictor with the tiles and views of a configuration.

    Raises:
        UserError: Tiles that do not suit the model.
    """
    inference = config.inference
    return Predictor(
        model,
        tile=config.tile,
        overlap=inference.overlap,
        device=device,
        precision=precision,
        mirror=inference.mirror,
        rotate=inference.rotate,
        batch=None if inference.batch == "auto" else inference.batch,
        engine=engine,
    )


@dataclass(frozen=True)
class Recipe:
    """Network, tiles and views (the predictor), and what stands before and behind them."""

    predictor: Predictor
    normalisation: Method
    postprocessing: Postprocessing
    origin: Origin = NOBODY
    """What made the weights, for the record."""
    empty: Declared = None
    """Grey values where an image that was never prepared holds nothing; None finds them."""

    @classmethod
    def of(cls, model: nn.Module, config: Config, origin: Origin = NOBODY, *, processes: int = 1) -> "Recipe":
        """The recipe of a configuration; `processes` of it share the machine's memory.

        Raises:
            UserError: A device or an engine that is not there, tiles that do not suit the model, or that do not fit
                into memory.
        """
        device = choose_device(config.device)
        engine = choose_engine(config.inference.engine, device)
        predictor = predictor_of(model, config, device, choose_precision(config.precision, device), engine)
        check_tile(predictor, processes)
        made = replace(origin, precision=predictor.precision.name, engine=predictor.engine_name)
        return cls(predictor, config.data.normalisation, config.postprocessing, made, config.inference.declared_empty)

    def normalised(self, image: NDArray[Any], statistics: IntensityStatistics) -> Normalised:
        """Grey values [Z, Y, X] as the network sees them, window by window; the statistics are the whole volume's."""
        return Normalised(image, statistics, self.normalisation)

    def of_case(self, dataset: PreparedDataset, case_id: str, progress: Tally | None = None) -> NDArray[np.float32]:
        """Probabilities float32 [Z, Y, X] of a prepared volume; what its scan left empty is background."""
        image = self.normalised(np.asarray(dataset.image(case_id)), dataset.case(case_id).statistics)
        return self.predictor.probabilities(image, dataset.scan(case_id), progress)

    def mask(self, probabilities: NDArray[np.float32], scan: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
        """Probabilities [Z, Y, X] as 0 and 1; nothing is surface where the scan is empty."""
        return apply_pipeline(probabilities, self.postprocessing, scan)

    @property
    def settings(self) -> Settings:
        """Everything that decides what a mask looks like, for the record beside it."""
        predictor = self.predictor
        return Settings(
            **asdict(self.origin),
            weights_sha256=weights_identity(predictor.model),
            normalisation=self.normalisation,
            empty=self.empty,
            tile=predictor.tile,
            overlap=predictor.overlap,
            mirror=predictor.mirror,
            rotate=predictor.rotate,
            postprocessing=self.postprocessing.model_dump(mode="json"),
        )

    def record(self, *names: str) -> dict[str, Any]:
        """Some of `settings` as JSON values."""
        settings = strict_json(asdict(self.settings))
        return {name: settings[name] for name in names}


def open_recipe(
    source: Path,
    *,
    which: str = DEFAULT_WHICH,
    overrides: Sequence[str] = (),
    threshold: float | None = None,
    processes: int = 1,
) -> Recipe:
    """Open a run or a bundle for prediction.

    Args:
        source: A run folder, or a bundle file.
        which: Which weights of a run, as in `Run.trained`; a bundle holds the ones it was made of.
        overrides: `key=value` for keys of `inference`, `postprocessing`, `device` and `precision`.
        threshold: Instead of the configured one.
        processes: How many processes will open it, and share the machine's memory.

    Raises:
        UserError: Neither a run nor a bundle, a damaged one, weights that are not there, or settings that do not suit.
    """
    if source.suffix == SUFFIX if not source.exists() else source.is_file():
        if which != DEFAULT_WHICH:
            raise UserError(
                f"--which {which} does not go with the bundle {source}: its weights were chosen when it was made; "
                "leave --which out, or give the run folder"
            )
        bundle = read_bundle(source)
        model, config = bundle.model(), on_this_machine(bundle.config)
        origin = Origin(bundle=bundle.identity, members=tuple(member.name for member in bundle.members))
    else:
        trained = Run(source).trained(which)
        model, config, origin = trained.model, trained.config, Origin(run=source.name, which=which)
    config = override_prediction(config, overrides, f"of {source}")
    config = config.model_copy(update={"postprocessing": with_threshold(config.postprocessing, threshold)})
    return Recipe.of(model, config, origin, processes=processes)
