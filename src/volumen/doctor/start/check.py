"""P8: does the run start as it should, and can it learn at all?"""

from collections.abc import Callable, Iterator

import numpy as np
from torch import nn

from volumen.doctor.check import Check
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.autopsy import logit, sigmoid
from volumen.doctor.objective.check import autopsies
from volumen.doctor.start.first_steps import (
    Board,
    alone,
    answer_to_images,
    board_of,
    first_total,
    fresh,
    gradients,
    leak_between_samples,
    reachable_range,
    resume_error,
)
from volumen.doctor.start.overfit import LEARNT, Overfit, overfit
from volumen.doctor.start.size import check_size
from volumen.inference.accumulator import merge
from volumen.inference.tiles import CoverageError, Tiles
from volumen.system.output import counted
from volumen.training.step import NonFiniteError

LARGER_VOLUME = (320, 320, 320)  # such as is predicted later
LARGEST_ERROR = 1e-3
"""Of what should be equal, relative to what it is a part of; measured on healthy runs: at most 1e-5."""
HIGH_START = 0.5
"""Progress by which the first loss may exceed that of the constants it starts from; measured: at most 0.06."""


NOT_LEARNT, HALF_LEARNT = 0.5, 0.1
"""Progress above which the patches were not learnt, and not well; a healthy run gets below 0.05."""
LOOKS = 0.5
"""Progress that images of nothing or of something else must not come below."""
MODE_GAP = 0.2


def check_start(context: Context) -> Iterator[Finding]:
    """P8, what takes seconds."""
    yield from _seen(context)
    sizes = tuple(check_size(context))
    yield from sizes
    if any(one.severity == Severity.stop for one in sizes):
        return
    with alone():
        yield from _tiles(context)
        board = board_of(context, 2)
        for look in (_head, _resume, _network):
            try:
                yield from look(context, board)
            except NonFiniteError as error:
                yield _stop(
                    "the first step is not finite",
                    f"{error}; on two patches of {board.images.shape[-1]}^3 voxels in fp32",
                    ("a term that divides by nothing", "a kernel that fails at this size of patch"),
                    ("find the term with volumen audit loss", "another patch, or precision: fp32"),
                    context.where("loss.terms"),
                )
            except Exception as error:  # whatever ends the first step ends the run
                yield _stop(
                    "the first step fails",
                    f"{type(error).__name__}: {error}",
                    ("the configuration asks for what this data set, this machine or these parts cannot do",),
                    ("mend what the message names",),
                    context.where("model"),
                )
                return


def _seen(context: Context) -> Iterator[Finding]:
    """Initial weights that have learned from what the run is to be judged by."""
    initial = context.initial
    if initial is None:
        return
    both = sorted({*initial.seen} & {*context.validation})
    known = initial.trained_on
    if known is None or both:
        same = known is not None and known.dataset == context.dataset.identity
        yield Finding(
            code="P8",
            severity=Severity.stop if both and same else Severity.warn,
            title="the initial weights may have learned from the volumes that are held out",
            evidence=(
                f"{initial.source} was trained on {', '.join(both[:5])}{' ...' if len(both) > 5 else ''}"
                + ("" if same else " of another data set, by their names")
                if known is not None
                else f"{initial.source} does not say which volumes its network was trained on"
            ),
            causes=("weights of another fold", "folds that were divided anew"),
            remedies=("begin with the run that held out the same fold", "leave model.initial_weights out"),
            where=context.where("model.initial_weights"),
        )


def _tiles(context: Context) -> Iterator[Finding]:
    """Every voxel of every volume lies in a tile, and a network that gives its input back gives back the volume."""
    shapes = sorted({case.shape for case in context.dataset.cases})
    for shape in (*shapes, LARGER_VOLUME):
        tiles = context.parts.tiles(shape, context.config.tile, context.config.inference.overlap)
        try:
            covered = tiles.coverage  # raises where a voxel lies in no tile
            error = _identity_error(tiles) if covered and shape == shapes[0] else 0.0
        except CoverageError as missed:
            evidence = f"volume {list(shape)}: {missed}"
        else:
            if error <= LARGEST_ERROR:
                continue
            evidence = f"a network that gives its input back is off by {error:.3g} of 1 on {list(shape)}"
        yield _stop(
            "tiles do not cover a volume",
            evidence,
            ("the last tile stops short of the volume's end",),
            ("plan tiles with inference.plan_tiles, whose last tile ends with the volume",),
            context.where("inference.tile"),
        )
        return


def _identity_error(tiles: Tiles) -> float:
    """How far tiles of a random volume, put back together, are from it."""
    volume = np.random.default_rng(0).random(tiles.shape, dtype=np.float32)
    padded = np.asarray(tiles.pad(volume), dtype=np.float32)
    merged = merge(tiles, ((origin, padded[tiles.window(origin)]) for origin in tiles.origins))
    return float(np.abs(merged - volume).max())


def _head(context: Context, board: Board) -> Iterator[Finding]:
    least, most = reachable_range(context, board.images)
    if least >= -LARGEST_ERROR and most <= 1 + LARGEST_ERROR:
        yield _stop(
            "the network ends in an activation: a second one follows",
            f"whatever its weights, its outputs stay within [{least:.3f}, {most:.3f}]; probabilities would lie within "
            f"[{sigmoid(least):.3f}, {sigmoid(most):.3f}], so that a threshold of 0.5 takes every voxel",
            ("a sigmoid at the end of the network",),
            ("give logits: the sigmoid stands in inference and in the loss",),
            context.where("model"),
        )


def _resume(context: Context, board: Board) -> Iterator[Finding]:
    error, parts = resume_error(context, board)
    if error > LARGEST_ERROR or parts:
        others = f"; {', '.join(parts)} differ" if parts else ""
        yield _stop(
            "a resumed run goes another way",
            f"a step after saving and loading differs from the one without by {error:.1%} of its size{others}",
            ("the checkpoint leaves out a part of the state, such as the optimiser's",),
            ("save and restore all of it (training.state.TrainingState)",),
            context.where("optimiser.kind"),
        )


def _network(context: Context, board: Board) -> Iterator[Finding]:
    """Gradients, batch, input and first loss of the run's own network."""
    model, where = fresh(context).model, context.where("model")
    found = gradients(model, board)
    for severity, names, what, remedy in (
        (
            Severity.stop,
            found.not_finite,
            ("weight has a gradient that is not finite", "weights have a gradient that is not finite"),
            "precision: fp32",
        ),
        (
            Severity.stop,
            found.unreached,
            ("weight gets no gradient", "weights get no gradient"),
            "see that they take part in the logits",
        ),
        (
            Severity.warn,
            found.frozen,
            ("parameter is frozen", "parameters are frozen"),
            "let them learn, or leave them out",
        ),
    ):
        if names:
            yield Finding(
                code="P8",
                severity=severity,
                title=counted(len(names), *what),
                evidence=f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''} at the first step",
                causes=("a part of the network that is detached, frozen or not used",),
                remedies=(remedy,),
                where=where,
            )
    for value, limit, title, evidence, cause, remedy in _answers(model, board):
        if limit(value):
            yield _stop(title, f"{evidence} {value:.2g}", (cause,), (remedy,), where)
    yield from _first_loss(context, board, first_total(model, board, (0.0, logit(context.prior))))


def _answers(model: nn.Module, board: Board) -> Iterator[tuple[float, Callable[[float], bool], str, str, str, str]]:
    yield (
        leak_between_samples(model, board.images), lambda value: value > LARGEST_ERROR,
        "the answer to a patch depends on the others in its batch",
        "another neighbour changes it, relative to its own spread, by",
        "axes are mixed up: the batch is taken for something else", "keep samples apart (instance norm does)",
    )  # fmt: skip
    yield (
        answer_to_images(model, board.images), lambda value: value < LARGEST_ERROR,
        "the network does not look at its images",
        "empty images change its answer, relative to its size, by",
        "the image does not reach the network", "follow the image from the loader to the first layer",
    )  # fmt: skip


def _first_loss(context: Context, board: Board, totals: tuple[float, float]) -> Iterator[Finding]:
    start, constant = totals
    reach = next(iter(autopsies(context).values())).total
    excess = (start - constant) / max(reach.baseline - reach.floor, 1e-12)
    if excess > HIGH_START:
        yield Finding(
            code="P8",
            severity=Severity.warn,
            title="the first loss is far from that of a constant",
            evidence=(
                f"{start:.3f} before the first step, where constants of 0.5 and of the surface share give at most "
                f"{constant:.3f}: worse by {excess:.2f} of the way from best attainable to best constant"
            ),
            causes=("an initialisation with large outputs", "images that are not normalised"),
            remedies=("data.normalisation: zscore", "a smaller last layer"),
            where=context.where("model"),
        )


def _stop(title: str, evidence: str, causes: tuple[str, ...], remedies: tuple[str, ...], where: str) -> Finding:
    return Finding("P8", Severity.stop, title, evidence, causes, remedies, where)


def check_learning(context: Context) -> Iterator[Finding]:
    """P8, what takes minutes."""
    found = overfit(context)
    said = _words(found)
    where = context.where("optimiser.learning_rate")
    if found.failure is not None:
        yield _stop(
            "two patches cannot be learnt: a step is not finite",
            f"{found.failure}; {said}",
            ("the rate is too high", "precision"),
            ("a lower optimiser.learning_rate", "precision: fp32"),
            where,
        )
    elif found.decided and found.reached > HALF_LEARNT:
        never = found.reached > NOT_LEARNT
        yield Finding(
            code="P8",
            severity=Severity.stop if never else Severity.warn,
            title=f"two patches {'cannot' if never else 'can hardly'} be learnt by heart",
            evidence=said,
            causes=("the rate is too low or too high", "parts of the network are frozen", "terms that conflict"),
            remedies=("optimiser.learning_rate within the interval of volumen audit rate", "volumen audit loss"),
            where=where,
        )
    elif not found.decided:
        yield Finding(
            code="P8",
            severity=Severity.note,
            title="no time to learn two patches by heart",
            evidence=said,
            causes=("a large network on this machine",),
            remedies=("audit on the machine that trains",),
            where=context.where("model"),
        )
    if found.reached < HALF_LEARNT:
        yield from _looks(context, found)


def _looks(context: Context, found: Overfit) -> Iterator[Finding]:
    """Were the patches learnt from their images, and do both modes of the network agree?"""
    blind = min(found.zeroed, found.exchanged)
    if blind < LOOKS:
        yield _stop(
            "the network does not look at its images",
            f"progress r after learning {found.progress[-1]:.2f}; of empty images {found.zeroed:.2f}, of the other "
            f"patch's image {found.exchanged:.2f}, which should be near 1 or above",
            ("the image does not reach the network",),
            ("follow the image from the loader to the first layer",),
            context.where("model"),
        )
    gap = abs(found.training_mode - found.progress[-1])
    if gap > MODE_GAP:
        yield Finding(
            code="P8",
            severity=Severity.warn,
            title="the network answers differently in training and evaluation",
            evidence=f"progress r {found.training_mode:.2f} in training mode, {found.progress[-1]:.2f} in evaluation",
            causes=("batch norm with few samples", "dropout"),
            remedies=("a network with instance norm",),
            where=context.where("model"),
        )


def _words(found: Overfit) -> str:
    return (
        f"two patches of {found.side_voxels}^3, {found.steps} steps at the run's highest rate {found.rate:.3g} in "
        f"{found.seconds:.0f} s: progress r from {found.progress[0]:.2f} to {found.reached:.2f} (1: best constant, "
        f"0: best attainable; below {LEARNT} is learnt)"
    )


START = Check(code="P8", title="The start of a run", run=check_start, seconds=10.0, thorough=check_learning)
