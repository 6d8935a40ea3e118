"""P8, what takes minutes: can the run learn two patches by heart, and from their images?"""

from collections.abc import Iterator

from volumen.doctor.audit.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.overfit import LEARNT, Overfit, overfit

NOT_LEARNT, HALF_LEARNT = 0.5, 0.1
"""Progress above which the patches were not learnt, and not well; a healthy run gets below 0.05."""
LOOKS = 0.5
"""Progress that images of nothing or of something else must not come below."""
MODE_GAP = 0.2


def check_learning(context: Context) -> Iterator[Finding]:
    """P8, what takes minutes."""
    found = overfit(context)
    said = _words(found)
    where = context.where("optimiser.learning_rate")
    if found.failure is not None:
        yield stop(
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
        yield stop(
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


def stop(title: str, evidence: str, causes: tuple[str, ...], remedies: tuple[str, ...], where: str) -> Finding:
    """A finding of P8 that stops a run."""
    return Finding("P8", Severity.stop, title, evidence, causes, remedies, where)
