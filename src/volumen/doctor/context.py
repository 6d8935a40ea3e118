"""What every check looks at: the configuration, the data set, and what is derived from both once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.config.load import LoadedConfig, parent_of
from volumen.config.loss import ClassWeights, Loss, Phase
from volumen.config.problems import DEFAULT
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset, surface_share
from volumen.data.emptiness import fill_in
from volumen.data.folds import FILE, make_folds
from volumen.data.labels import IGNORE, Lesson
from volumen.data.normalise import normalise
from volumen.data.packed import Volume
from volumen.data.randomness import generator
from volumen.data.sampling import PatchDataset, crop
from volumen.errors import UserError
from volumen.inference.tiles import Tiles, Triple, plan_tiles
from volumen.losses import CompositeLoss
from volumen.runtime import Precision
from volumen.training.initial import InitialWeights, Materials, initial_weights
from volumen.training.objective import build_objective
from volumen.training.state import TrainingState, fresh_state

PATCHES = 4
PATCH_VOXELS = 32  # side of the label patches of the autopsy

MeasuredT = TypeVar("MeasuredT")


@dataclass(frozen=True)
class Parts:
    """The makers of a run's parts: those of `volumen train` and `volumen predict`, or those of code of your own."""

    objective: Callable[[Loss, int], CompositeLoss] = build_objective
    """The composite loss of an epoch."""
    state: Callable[..., TrainingState] = fresh_state
    """Model, optimiser, rate and averages before the first step; the arguments of `fresh_state`."""
    tiles: Callable[[Triple, Triple, float], Tiles] = plan_tiles
    """The tiles of a volume: shape, tile, overlap."""


@dataclass(frozen=True)
class Budget:
    """What a run can do in its time, estimated."""

    seconds: float
    step_seconds: float
    validation_seconds: float
    steps: int
    configured: Config
    """As it was before the epochs became those that there is time for."""


@dataclass(frozen=True)
class Context:
    """A run that has not started."""

    config: Config
    dataset: PreparedDataset
    training: tuple[str, ...]
    """Case ids of the fold's training part."""
    validation: tuple[str, ...]
    """Case ids that are held out."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each value of the configuration stands, by dotted key."""
    parts: Parts = field(default_factory=Parts)
    """What the run is built of."""
    parent: Config | None = None
    """The configuration on which this one is based."""
    budget: Budget | None = None
    """The time budget, by which the configured epochs are what there is time for."""
    materials: Materials | None = None
    """Where the initial weights come from, where they are opened for the training as well."""
    known: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was measured of this run, by what measured it; see `once`."""

    def where(self, key: str) -> str:
        """A key with the place it was set."""
        below = (place for known, place in self.origins.items() if known.startswith(f"{key}."))
        origin = self.origins.get(key) or next(below, None)
        return key if origin in (None, DEFAULT) else f"{key} ({origin})"

    @cached_property
    def patches(self) -> PatchDataset:
        """The run's own patches."""
        return PatchDataset(self.dataset, self.training, self.config.data, self.config.seed)

    @cached_property
    def prior(self) -> float:
        """Share of surface in the training labels."""
        return surface_share(self.dataset, self.training)

    @cached_property
    def initial(self) -> InitialWeights | None:
        """The weights that the run begins with, where they are another's."""
        return initial_weights(self.config.model) if self.materials is None else self.materials.initial

    def state(
        self, config: Config, device: torch.device, precision: Precision, steps_per_epoch: int = 1, **options: Any
    ) -> TrainingState:
        """The state before the first step, as the run's parts make it; `options` are those of `fresh_state`."""
        return self.parts.state(
            config, device, precision, steps_per_epoch=steps_per_epoch, prior=self.prior, **options
        )  # fmt: skip

    @cached_property
    def phases(self) -> tuple[tuple[str, int], ...]:
        """Name and first epoch of each objective of the run, within the configured epochs."""
        phases: tuple[Phase, ...] = self.config.loss.curriculum
        named = [(phase.name, phase.start_epoch) for phase in phases if phase.start_epoch < self.config.training.epochs]
        return tuple(named if named and named[0][1] == 0 else [("start", 0), *named])

    @cached_property
    def objectives(self) -> dict[str, CompositeLoss]:
        """The objective of every phase."""
        return {name: self.parts.objective(self.config.loss, epoch) for name, epoch in self.phases}

    @cached_property
    def _patch_places(self) -> list[tuple[str, NDArray[np.integer]]]:
        """Volumes and centres of the small patches."""
        cases = [case_id for case_id in self.training if self.dataset.case(case_id).scanned_surface]
        if not cases:
            raise UserError("no training volume of this fold has labelled surface: there is nothing to learn from")
        places = []
        for number in range(PATCHES):
            case_id = cases[number * len(cases) // PATCHES % len(cases)]
            positions = self.dataset.surface_positions(case_id)
            random = generator(self.config.seed, 0, number, "audit")
            places.append((case_id, positions[int(random.integers(len(positions)))]))
        return places

    @cached_property
    def label_patches(self) -> NDArray[np.uint8]:
        """Small patches of real training labels around surface, uint8 [N, Z, Y, X].

        Raises:
            UserError: no training volume has any.
        """
        return np.stack([self.label_block(*place, PATCH_VOXELS) for place in self._patch_places])

    @cached_property
    def image_patches(self) -> NDArray[np.float32]:
        """The grey values of `label_patches`, float32 [N, Z, Y, X]."""
        return np.stack([self._image_block(*place, PATCH_VOXELS) for place in self._patch_places]).astype(np.float32)

    def normalised_patches(self, count: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Patches as a network sees them, and their labels.

        Args:
            count: At most 4.
            side: In voxels; what lies outside of a volume is 0 and ignored.

        Returns:
            Images float32 [N, 1, Z, Y, X], labels uint8 [N, Z, Y, X] in canonical codes.
        """
        places, method = self._patch_places[:count], self.config.data.normalisation
        blocks = [
            normalise(self._image_block(one, centre, side), self.dataset.case(one).statistics, method)
            for one, centre in places
        ]
        return np.stack(blocks)[:, None], np.stack([self.label_block(*place, side) for place in places])

    def middle(self, case_id: str, side: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Grey values and labels of the cube in the middle of a volume; what lies outside is 0 and ignored."""
        centre = self.centre(case_id)
        return self._image_block(case_id, centre, side), self.label_block(case_id, centre, side)

    def centre(self, case_id: str) -> NDArray[np.integer]:
        """The voxel in the middle of a volume, z y x."""
        return np.array(self.dataset.case(case_id).shape) // 2

    def label_block(self, case_id: str, centre: NDArray[np.integer], side: int) -> NDArray[np.uint8]:
        """Canonical codes of a cube about a voxel, moved inside of the volume where it fits; ignored outside of it."""
        return _block(self.dataset.lesson(case_id), centre, side, outside=IGNORE).astype(np.uint8)

    def _image_block(self, case_id: str, centre: NDArray[np.integer], side: int) -> NDArray[Any]:
        block, empty = _block(self.dataset.image(case_id), centre, side), self.dataset.empty(case_id)
        return block if empty is None else fill_in(block, _block(empty, centre, side) == 0)


def once(measure: Callable[[Context], MeasuredT]) -> Callable[[Context], MeasuredT]:
    """A measurement that several checks look at, done once for a context."""

    @wraps(measure)
    def remembered(context: Context) -> MeasuredT:
        if measure not in context.known:
            context.known[measure] = measure(context)
        found: MeasuredT = context.known[measure]
        return found

    return remembered


def _block(volume: Volume | Lesson, centre: NDArray[np.integer], side: int, outside: int | None = None) -> NDArray[Any]:
    """A cube about a place, moved inside of the volume where it fits."""
    start = [
        min(max(int(place) - side // 2, 0), max(length - side, 0))
        for place, length in zip(centre, volume.shape, strict=True)
    ]
    return crop(volume, start, (side,) * 3, outside=outside)


def open_context(
    loaded: LoadedConfig[Config], *, as_run: bool = False, needs_folds: bool = False, materials: Materials | None = None
) -> Context:
    """The context of a configuration; a data set without folds is divided as `volumen folds` would.

    Args:
        loaded: The configuration and where its values stand.
        as_run: Take the objective of `experiment.ran`, which really ran, in place of the file's.
        needs_folds: Refuse a data set without folds, as training does.
        materials: Data set, fold and initial weights, where they are opened for the training as well.

    Raises:
        UserError: The data set or fold does not exist, or the configuration says nothing of what ran.
    """
    config = loaded.config
    if as_run:
        if config.experiment.ran is None:
            raise UserError(f"{config.name} has no experiment.ran: it ran as its file says, leave --as-run out")
        # What ran knew no class weights: the code read none of them.
        loss = config.loss.model_copy(update={"terms": config.experiment.ran, "class_weights": ClassWeights()})
        config = config.model_copy(update={"loss": loss})
    materials = materials or Materials(config)
    dataset = materials.dataset
    if not needs_folds and config.data.folds is None and not (dataset.root / FILE).is_file():
        fold = make_folds(dataset)[0].fold(config.data.fold)
    else:
        fold = materials.fold
    based = parent_of(loaded) if len(loaded.sources) > 1 else None
    parent = None if based is None else based.config
    return Context(config, dataset, fold.train, fold.validation, loaded.origins, parent=parent, materials=materials)
