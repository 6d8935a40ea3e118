"""The stages of a rehearsal: each calls the package's own code with a configuration and returns plain values by part.

What a stage does follows `training.loop`, and so does what it reads. A stage keeps nothing: an object that holds on to
its configuration would go on reading it in another stage unseen.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import default_collate

from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.labels import IGNORE, SURFACE
from volumen.data.loader import PatchLoader
from volumen.data.normalise import normalise
from volumen.data.packed import Volume
from volumen.data.sampling import PatchDataset, Sample, crop
from volumen.doctor.fields import sheets as sheets_field
from volumen.doctor.fields import waves
from volumen.inference.predictor import Predictor
from volumen.losses import CompositeLoss
from volumen.losses.targets import target_makers
from volumen.models import build_model
from volumen.postprocess import apply_pipeline
from volumen.runtime import Precision, choose_precision
from volumen.training.noise import inject_noise, noise_is_due
from volumen.training.regions import validation_regions
from volumen.training.schedule import LearningRate
from volumen.training.state import TrainingState
from volumen.training.step import training_step
from volumen.training.validate import validate
from volumen.training.watch import Verdict, Watch, plan_scale

if TYPE_CHECKING:  # the audit's checks call the rehearsal
    from volumen.doctor.audit.context import Context
    from volumen.doctor.audit.parts import Parts

CPU = torch.device("cpu")
STEPS = 2  # with one, a momentum has nothing to remember
LARGEST_BATCH = 2
DRAWS = 24
BLOCK_VOXELS = 32  # side of the block that is validated
LARGER_VOLUME = (320, 320, 320)
EPOCHS = 200  # epochs of a run that are looked at, evenly spread over longer ones
OBJECTIVE_EPOCHS = 100
STRONGEST_OF = 16  # steps of the run among which those of the highest rates are rehearsed
NOISES = 2


@dataclass(frozen=True)
class Run:
    """What the stages of training share."""

    parts: "Parts"
    steps_per_epoch: int
    prior: float

    def state(self, config: Config) -> TrainingState:
        """The state before the first step."""
        precision = precision_of(config)
        return self.parts.state(
            config, CPU, precision, steps_per_epoch=self.steps_per_epoch, prior=self.prior
        )  # fmt: skip


@contextmanager
def alone() -> Iterator[None]:
    """One thread, so that sums have one order, and the process's random state as it was afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)


def precision_of(config: Config) -> Precision:
    """The precision of a rehearsal, which runs on the CPU: bf16 stands in for the other half precision."""
    return choose_precision("bf16" if config.precision == "fp16" else config.precision, CPU)


def batch_of(config: Config) -> int:
    """Patches in a rehearsed batch."""
    return min(config.data.batch, LARGEST_BATCH)


def draws(config: Config, context: "Context") -> dict[str, Any]:
    """Where the run's own patches lie, and how many batches an epoch has."""
    patches = PatchDataset(context.dataset, context.training, config.data, config.seed)
    with PatchLoader(patches, batch=config.data.batch, workers=0) as loader:
        steps = loader.batches_per_epoch
    places = [patches.draw(0, index) for index in range(DRAWS)]
    return {"places": [(len(patches), patches.patch), places], "steps an epoch": steps}


def shapes(config: Config, parts: "Parts", prior: float) -> dict[str, Any]:
    """The parameters of the network in its full size, without the memory for them."""
    nowhere = torch.device("meta")
    with nowhere:
        state = parts.state(config, nowhere, Precision("fp32", "cpu"), steps_per_epoch=1, prior=prior)
    parameters = [(name, tuple(one.shape)) for name, one in state.model.named_parameters()]
    return {"model": (parameters, getattr(state.model, "divisor", None))}


def objective(config: Config, parts: "Parts", labels: NDArray[np.uint8]) -> dict[str, Any]:
    """Weights over the run, and the value of each objective of it on real labels and on drawn sheets."""
    weights: dict[str, list[Any]] = {}
    for epoch in _spread(config.training.epochs, OBJECTIVE_EPOCHS):
        made = parts.objective(config.loss, epoch)
        held = {name: weight for name, (weight, _) in made.terms.items()}
        weights.setdefault(repr(held), [made, []])[1].append(epoch)
    boards = [labels[:2], sheets()[None]]
    values = [_values(made, board) for (made, _), board in product(weights.values(), boards)]
    return {"objective": values, "loss weights": {held: epochs for held, (_, epochs) in weights.items()}}


def _values(made: CompositeLoss, labels: NDArray[np.uint8]) -> list[Any]:
    found = []
    with torch.no_grad():
        for logits in answers(labels):
            breakdown = made(logits, *as_target(labels))
            found.append((breakdown.total, breakdown.raw, breakdown.weighted))
    return found


def as_target(labels: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and valid voxels of canonical codes [N, Z, Y, X], as an objective takes them."""
    return torch.from_numpy((labels == SURFACE).astype(np.uint8)), torch.from_numpy(labels != IGNORE)


def answers(labels: NDArray[np.uint8]) -> list[torch.Tensor]:
    """Logits [N, 1, Z, Y, X] of an unsure, a fair and an overly sure prediction: some terms sleep for one of them."""
    noise = np.random.default_rng(0).standard_normal(labels.shape, dtype=np.float32)
    truth = np.where(labels == SURFACE, 1.0, -1.0).astype(np.float32)
    fields = (0.5 * noise, 2.0 * truth + 2.0 * noise, 16.0 * np.sign(truth + 0.7 * noise))
    return [torch.from_numpy(np.ascontiguousarray(one))[:, None] for one in fields]


def sheets() -> NDArray[np.uint8]:
    """Five sheets across x with gaps of 2, 4, 6 and 9 voxels, canonical codes [32, 32, 32]."""
    label = np.zeros((32, 32, 32), np.uint8)
    for start in (1, 5, 11, 19, 30):
        label[:, 2:30, start : start + 2] = SURFACE
    return label


def tiles(config: Config, parts: "Parts", dataset: PreparedDataset) -> dict[str, Any]:
    """The tiles of every shape in the data set, and of a larger volume, such as is predicted later."""
    shapes = [*sorted({case.shape for case in dataset.cases}), LARGER_VOLUME]
    return {"tiles": [parts.tiles(shape, config.tile, config.inference.overlap).starts for shape in shapes]}


def mask(config: Config) -> dict[str, Any]:
    """Made fields of every difficulty, cleaned as a prediction is."""
    return {name: apply_pipeline(field, config.postprocessing) for name, field in _fields().items()}


@cache
def _fields() -> dict[str, NDArray[np.float32]]:
    return {"mask": waves(), "mask of sheets": sheets_field()}


def validation(config: Config, context: "Context") -> dict[str, Any]:
    """The regions of a held-out volume that two validations look at, and a block of a training volume, predicted
    fairly and scored as a validation does.
    """
    label = context.dataset.lesson(context.validation[0])
    regions = [validation_regions(config, label, 0, epoch) for epoch in (0, 1)]
    block = _one_block(context)
    case_id = block.cases[0].id
    scored = validate(cast(Predictor, _Fair(block)), _plain_objective(), block, (case_id,), config)
    chosen = scored.metrics[config.training.selection_metric]
    return {"validation": (chosen, scored.total, scored.metrics), "validated voxels": repr(regions)}


@dataclass(frozen=True)
class _Fair:
    """In a predictor's place: the truth with faults that follow the image."""

    block: PreparedDataset

    def logits(self, image: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        truth = np.where(np.asarray(self.block.label(self.block.cases[0].id)) == SURFACE, 2.0, -2.0)
        wavy = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(image.shape), 1.5)
        return np.asarray(truth + 3.0 * wavy / wavy.std() + 0.1 * image, dtype=np.float32)


def _plain_objective() -> CompositeLoss:
    from volumen.losses import TERMS

    return CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]())})


def _one_block(context: "Context") -> PreparedDataset:
    """A data set of one small volume, cut around surface of a training volume, in memory."""
    dataset = context.dataset
    case = next(dataset.case(one) for one in context.training if dataset.case(one).scanned_surface)
    centre = dataset.surface_positions(case.id)[0]
    side = (BLOCK_VOXELS,) * 3
    start = [
        min(max(int(place) - BLOCK_VOXELS // 2, 0), max(length - BLOCK_VOXELS, 0))
        for place, length in zip(centre, case.shape, strict=True)
    ]
    image = crop(dataset.image(case.id), start, side)
    label = crop(dataset.lesson(case.id), start, side, outside=IGNORE)
    held: dict[tuple[str, str], Volume] = {(case.id, "images"): image, (case.id, "labels"): label}
    return replace(dataset, cases=(replace(case, shape=side, empty=None),), _arrays=held)


def patches(config: Config, context: "Context", targets: tuple[str, ...], samples: Sequence[int]) -> dict[str, Any]:
    """Some small patches of the training volumes, varied."""
    made = PatchDataset(context.dataset, context.training, config.data, config.seed, target_makers(targets))
    return {"patches": [made[index] for index in samples]}


def prediction(config: Config, context: "Context") -> dict[str, Any]:
    """The untrained small network's logits of a block, tile by tile."""
    block = _one_block(context)
    case = block.cases[0]
    image = normalise(np.asarray(block.image(case.id)), case.statistics, config.data.normalisation)
    torch.manual_seed(0)
    predictor = Predictor(
        build_model(config.model), tile=config.tile, overlap=config.inference.overlap, device=CPU,
        precision=precision_of(config), mirror=config.inference.mirror, rotate=config.inference.rotate,
    )  # fmt: skip
    wanted = (*config.tile[:2], config.tile[2] * 3 // 2)  # two tiles and more, according to the overlap
    image = np.pad(image, [(0, max(0, side - BLOCK_VOXELS)) for side in wanted], mode="reflect")
    return {"prediction": predictor.logits(image[tuple(slice(side) for side in wanted)])}


def steps(config: Config, run: Run, samples: Sequence[Sample]) -> dict[str, Any]:
    """Two optimisation steps in the middle of the run, where the rate is high."""
    state = run.state(config)
    state.model.train()
    planned, per_epoch, batch = state.planned_steps, state.steps_per_epoch, batch_of(config)
    candidates = _spread(planned, STRONGEST_OF)
    strongest = sorted(candidates, key=lambda step: state.rate.rate_at(step / per_epoch, planned / per_epoch))
    results = []
    for number, step in enumerate((strongest[-1], strongest[-min(STEPS, len(strongest))])):
        state.rate.apply(step / per_epoch, planned / per_epoch)
        chosen = samples[number * batch : (number + 1) * batch]
        results.append(
            training_step(
                state.model,
                run.parts.objective(config.loss, step // per_epoch),
                state.optimiser,
                default_collate(list(chosen)),
                precision=precision_of(config),
                device=CPU,
                gradient_clip=config.training.gradient_clip,
                scaler=state.scaler,
            )
        )
        if state.average is not None:
            state.average.count = max(state.average.count, step)  # as many updates as the run has had by then
            state.average.update(state.model)
    return {
        "step": [(result.total, result.raw, result.weighted, result.gradient_norm) for result in results],
        "weights": [dict(state.model.named_parameters()), state.optimiser.state_dict()["state"]],
        "moving average": None if state.average is None else state.average.weights,
    }


def course(config: Config, run: Run) -> dict[str, Any]:
    """What happens from the first epoch to the last: rates, noise, averages, verdicts."""
    state = run.state(config)
    start = copy.deepcopy(dict(state.model.named_parameters()))
    epochs = config.training.epochs
    planned = state.planned_steps / state.steps_per_epoch
    rates = [state.rate.rate_at(epoch + part, planned) for epoch in _spread(epochs, EPOCHS) for part in (0.0, 0.4)]
    averaged = [epoch for epoch in _spread(epochs, EPOCHS) if state.swa and state.swa.after_epoch(state.model, epoch)]
    noise = config.training.weight_noise
    due = [] if noise is None else [epoch for epoch in _spread(epochs, EPOCHS) if noise_is_due(noise, epoch)]
    events = [inject_noise(state.model, noise, config.seed, epoch) for epoch in due[:NOISES] if noise is not None]
    shaken = dict(state.model.named_parameters()) if events else start
    return {
        "planned steps": (state.planned_steps, state.steps_per_epoch),
        "learning rate": rates,
        "averages": (state.average is not None, averaged),
        "noise": (due, events, shaken),
        "verdicts": verdicts(config, state.rate, planned),
    }


def verdicts(config: Config, rate: LearningRate, planned_epochs: float) -> dict[str, Any]:
    """What the run makes of some fixed courses of validation loss and metric, intervention included."""
    training = config.training
    every = training.validate_every_epochs
    validated = [epoch for epoch in range(training.epochs) if (epoch + 1) % every == 0 or epoch + 1 == training.epochs]
    fresh, found = rate.state_dict(), dict[str, list[Any]]()
    for name, (totals, metrics, norm) in courses(min(len(validated), EPOCHS)).items():
        rate.load_state_dict(fresh)
        watch, told = Watch(), list[Any]()
        for epoch, total, metric in zip(validated, totals, metrics, strict=False):
            verdict = watch.after_validation(training, epoch, float(total), float(metric))
            told.append((epoch, rate.after_validation(float(total)), *_decisions(verdict)))
            if verdict.stop:
                break
            if verdict.intervene and training.intervention is not None:
                scale = plan_scale(training.intervention, watch.note_intervention(), norm)
                rate.multiply(scale, cause=training.intervention.formula)
            told.append(rate.rate_at(epoch + 1, planned_epochs))
        found[name] = told
    return found


def _decisions(verdict: Verdict) -> tuple[bool, ...]:
    return verdict.is_best, verdict.rollback, verdict.intervene, verdict.stop


def courses(validations: int) -> Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    """Validation losses, selection metrics and a gradient norm for a run that learns, stalls, creeps, worsens, ...

    The fall from the first loss and the rises above the best one come in many sizes, so that any threshold between
    0.1 % and tenfold divides them.
    """
    k = np.arange(validations, dtype=np.float64)
    random = np.random.default_rng(0)
    learning = 0.3 + np.exp(-k / 20)
    flat = 1.0 + 1e-3 * random.standard_normal(validations)
    creeping = 1.0 - 1e-4 * k
    falling = np.maximum(1.0 - 0.02 * k, 0.02) + np.where(k % 7 > 3, 0.05 * (k % 7), 0.0)
    rising = np.maximum(1.0 - 0.05 * np.minimum(k, 3), 0.1) + 0.02 * np.maximum(k - 3, 0)
    jumping = 1.0 + np.where(k % 4 == 3, 1e-3 * 2.0 ** (k / 4 % 14), 0.0) - 1e-6 * k
    noisy = 1.0 + 0.2 * random.standard_normal(validations)
    series = {
        "learning": (learning, 1.0), "flat": (flat, 0.3), "creeping": (creeping, 0.3), "falling": (falling, 0.05),
        "rising": (rising, 0.01), "jumping": (jumping, 3.0), "noisy": (noisy, 0.6),
    }  # fmt: skip
    return {name: (totals, 1.0 - 0.5 * totals, norm) for name, (totals, norm) in series.items()}


def _spread(number: int, most: int) -> list[int]:
    """0 to number - 1, or at most `most` of them, evenly spread."""
    if number <= most:
        return list(range(number))
    return [int(one) for one in np.linspace(0, number - 1, most).round()]
