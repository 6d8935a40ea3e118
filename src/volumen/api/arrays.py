"""From arrays to arrays: a trained model's probabilities and masks, and post-processing of any probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volumen.api.commands import Settings, overrides_of
from volumen.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from volumen.config.postprocessing import Postprocessing
    from volumen.inference.recipe import Recipe


@dataclass(frozen=True)
class Model:
    """A trained network, or the mean of a bundle's, that predicts arrays; `load` makes it."""

    _recipe: Recipe

    def probabilities(self, image: ArrayLike) -> NDArray[np.float32]:
        """The probability of surface of every voxel, tile by tile.

        Args:
            image: Grey values as a TIFF holds them, integers [Z, Y, X]; what the scan left empty is found.

        Returns:
            float32 [Z, Y, X], 0 to 1.

        Raises:
            UserError: Not three axes of integers.
        """
        return self._predict(image)[0]

    def predict(self, image: ArrayLike) -> NDArray[np.uint8]:
        """The mask that `volumen predict` writes for an image.

        Args:
            image: Grey values as a TIFF holds them, integers [Z, Y, X].

        Returns:
            uint8 [Z, Y, X]: 1 surface, 0 background, by the model's own post-processing.

        Raises:
            UserError: Not three axes of integers.
        """
        return self._recipe.mask(*self._predict(image))

    def _predict(self, image: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Probabilities, and where the scan holds something."""
        import numpy as np

        from volumen.data.emptiness import find_emptiness
        from volumen.data.normalise import statistics_of

        array = np.asarray(image)
        if array.ndim != 3 or array.dtype.kind not in "ui" or not array.size:
            raise UserError(
                f"an image is a volume of integers [Z, Y, X], as its TIFF holds them; got {array.dtype} "
                f"{list(array.shape)}"
            )
        scan = find_emptiness(array, self._recipe.empty).scan
        normalised = self._recipe.normalised(array, statistics_of(array, scan))
        return self._recipe.predictor.probabilities(normalised, scan), scan


def load(source: str | Path, settings: Settings | None = None, *, which: str = "best") -> Model:
    """Load a run or a bundle for prediction.

    Args:
        source: Run folder, or a bundle (`model.volumen`).
        settings: Other settings of prediction than its own, such as `{"inference.overlap": 0.25}`.
        which: Weights of a run: best, best_loss, last, plain, average or swa.

    Raises:
        UserError: Neither a run nor a bundle, a damaged one, weights that are not there, or settings that do not suit.
    """
    from volumen.inference.recipe import open_recipe

    return Model(open_recipe(Path(source), which=which, overrides=overrides_of(settings)))


def make_mask(
    probabilities: ArrayLike,
    steps: str | Path | Sequence[Mapping[str, Any]] = "scroll",
    *,
    scan: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Apply post-processing to probabilities of any origin.

    Args:
        probabilities: [Z, Y, X], 0 to 1.
        steps: A preset (`plan`, `scroll`), a YAML file such as `volumen tune` writes, or steps as a configuration has
            them: `[{"kind": "threshold", "level": 0.4}, {"kind": "fill_cavities"}]`.
        scan: Where the scan holds something, bool [Z, Y, X]; None: everywhere.

    Returns:
        Mask, uint8 [Z, Y, X], 0 or 1.

    Raises:
        UserError: No such preset or file, steps that are wrong, or probabilities that are none.
    """
    import numpy as np

    from volumen.postprocess.pipeline import apply_pipeline

    volume = np.asarray(probabilities, dtype=np.float32)
    if volume.ndim != 3 or not ((volume >= 0) & (volume <= 1)).all():
        raise UserError(f"probabilities are a volume [Z, Y, X] of numbers from 0 to 1, got shape {list(volume.shape)}")
    if scan is not None and scan.shape != volume.shape:
        raise UserError(f"scan {list(scan.shape)} must have the shape of the probabilities {list(volume.shape)}")
    return apply_pipeline(volume, _postprocessing(steps), scan)


def _postprocessing(steps: str | Path | Sequence[Mapping[str, Any]]) -> Postprocessing:
    from pydantic import ValidationError

    from volumen.config.fragments import load_postprocessing
    from volumen.config.postprocessing import Postprocessing

    if isinstance(steps, str | Path):
        return load_postprocessing(str(steps))
    try:
        return Postprocessing.model_validate_json(json.dumps({"steps": [dict(step) for step in steps]}))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError(f"post-processing cannot be used ({said}): docs/configuration.md has every step") from error
