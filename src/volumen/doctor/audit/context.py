"""What every check looks at: the configuration, the data set, and what is derived from both once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.config.loss import Phase
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.emptiness import fill_in
from volumen.data.labels import IGNORE, Lesson
from volumen.data.normalise import normalise
from volumen.data.packed import Volume
from volumen.data.randomness import generator
from volumen.data.sampling import PatchDataset, crop
from volumen.doctor.audit.budget import Budget
from volumen.doctor.audit.parts import Parts
from volumen.doctor.autopsy import Autopsy, autopsy
from volumen.doctor.operating_point import OperatingPoint, Population, operating_point, population_of
from volumen.doctor.protocol_noise import ProtocolNoise, measure_noise
from volumen.errors import UserError
from volumen.losses import CompositeLoss
from volumen.training.initial import InitialWeights, Materials, initial_weights

PATCHES = 4
PATCH_VOXELS = 32  # side of the label patches of the autopsy
POPULATION_CASES = 6
POPULATION_VOXELS = 96  # side of the blocks whose blurred labels make the population


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

    def where(self, key: str) -> str:
        """A key with the place it was set."""
        below = (place for known, place in self.origins.items() if known.startswith(f"{key}."))
        origin = self.origins.get(key) or next(below, None)
        return key if origin in (None, "default") else f"{key} ({origin})"

    @cached_property
    def patches(self) -> PatchDataset:
        """The run's own patches."""
        return PatchDataset(self.dataset, self.training, self.config.data, self.config.seed)

    @cached_property
    def initial(self) -> InitialWeights | None:
        """The weights that the run begins with, where they are another's."""
        return initial_weights(self.config.model) if self.materials is None else self.materials.initial

    @cached_property
    def phases(self) -> tuple[tuple[str, int], ...]:
        """Name and first epoch of every stretch with an objective of its own, within the configured epochs."""
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
        return np.stack([self._label_block(*place, PATCH_VOXELS) for place in self._patch_places])

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
        return np.stack(blocks)[:, None], np.stack([self._label_block(*place, side) for place in places])

    @cached_property
    def image_patches(self) -> NDArray[np.float32]:
        """The grey values of `label_patches`, float32 [N, Z, Y, X]."""
        return np.stack(
            [self._image_block(case_id, centre, PATCH_VOXELS) for case_id, centre in self._patch_places]
        ).astype(np.float32)

    def _image_block(self, case_id: str, centre: NDArray[np.integer], side: int) -> NDArray[Any]:
        block, empty = _block(self.dataset.image(case_id), centre, side), self.dataset.empty(case_id)
        return block if empty is None else fill_in(block, _block(empty, centre, side) == 0)

    def _label_block(self, case_id: str, centre: NDArray[np.integer], side: int) -> NDArray[np.uint8]:
        return _block(self.dataset.lesson(case_id), centre, side, outside=IGNORE).astype(np.uint8)

    def middle(self, case_id: str, side: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Grey values and labels of the cube in the middle of a volume; what lies outside is 0 and ignored."""
        centre = np.array(self.dataset.case(case_id).shape) // 2
        return self._image_block(case_id, centre, side), self._label_block(case_id, centre, side)

    @cached_property
    def population(self) -> Population:
        """How sure the labels' own surfaces are, over blocks of some training volumes."""
        chosen = self.training[:: max(1, len(self.training) // POPULATION_CASES)][:POPULATION_CASES]
        middles = [np.array(self.dataset.case(case_id).shape) // 2 for case_id in chosen]
        blocks = [
            self._label_block(case_id, middle, POPULATION_VOXELS)
            for case_id, middle in zip(chosen, middles, strict=True)
        ]
        return population_of(np.stack(blocks))

    @cached_property
    def autopsies(self) -> dict[str, Autopsy]:
        """The autopsy of every phase's objective."""
        return {name: autopsy(objective, self.label_patches) for name, objective in self.objectives.items()}

    @cached_property
    def operating_points(self) -> dict[str, OperatingPoint | None]:
        """The operating point of every phase's objective."""
        return {name: operating_point(objective, self.population) for name, objective in self.objectives.items()}

    @cached_property
    def noise(self) -> ProtocolNoise:
        """The noise of the validation, in the loss of the last phase too."""
        return measure_noise(self.config, self.dataset, self.validation, list(self.objectives.values())[-1])


def _block(volume: Volume | Lesson, centre: NDArray[np.integer], side: int, outside: int | None = None) -> NDArray[Any]:
    """A cube about a place, moved inside of the volume where it fits."""
    start = [
        min(max(int(place) - side // 2, 0), max(length - side, 0))
        for place, length in zip(centre, volume.shape, strict=True)
    ]
    return crop(volume, start, (side,) * 3, outside=outside)
