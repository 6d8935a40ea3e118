"""P10: does the learning rate lie where the loss falls?"""

from collections.abc import Iterator

from volumen.doctor.audit.check import Check
from volumen.doctor.audit.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.rate_range import HIGHEST, LOWEST, RateRange, measure_rates

FAR_BELOW = 30.0
"""Below the lower end by more than this factor is too low; a range test's rates act for one step each, a run's for all
of them. Healthy runs: at most 9."""
FAR_ABOVE = 5.0
"""Above the upper end by more than this factor is too high."""


def check_rate(context: Context) -> Iterator[Finding]:
    """P10."""
    found = measure_rates(context)
    low, high, diverging = found.interval.lower, found.interval.upper, found.interval.diverging
    if diverging is not None and found.configured >= diverging:
        yield _finding(context, found, Severity.stop, "the learning rate lies where the loss diverges")
    elif high is not None and found.configured > FAR_ABOVE * high:
        yield _finding(context, found, Severity.warn, "the learning rate lies far above the useful ones")
    elif low is not None and found.configured < low / FAR_BELOW:
        yield _finding(context, found, Severity.warn, "the learning rate lies far below the useful ones")
    elif low is None and found.complete:
        yield _finding(context, found, Severity.warn, "no learning rate makes the loss fall")
    elif low is None:
        yield _finding(context, found, Severity.note, "no time for the range of learning rates")


def _finding(context: Context, found: RateRange, severity: Severity, title: str) -> Finding:
    low, high, diverging = found.interval.lower, found.interval.upper, found.interval.diverging
    least = min(found.progress, default=found.start)
    useful = f"useful are {low:.2g} to {high:.2g}" if low is not None and high is not None else "none was useful"
    ends = "" if diverging is None else f", from {diverging:.2g} on it diverges"
    remedy = (
        "volumen audit loss, then P8" if low is None else f"optimiser.learning_rate between {low:.2g} and {high:.2g}"
    )
    return Finding(
        code="P10",
        severity=severity,
        title=title,
        evidence=(
            f"highest rate of the run {found.configured:.3g}; in a range test of {len(found.rates)} steps from "
            f"{LOWEST:g} to {HIGHEST:g} on four patches {useful}{ends}: progress r "
            f"from {found.start:.2f} to {least:.2f}"
        ),
        causes=("a rate taken from another optimiser, batch or network",),
        remedies=(remedy,),
        where=context.where("optimiser.learning_rate"),
    )


RATE = Check(
    code="P10",
    title="Learning rate",
    symptom="A loss that creeps, or one that jumps and never settles.",
    why=(
        "The useful rates of two optimisers, networks or batches differ by factors of ten to a thousand; a rate from "
        "somewhere else is a guess."
    ),
    measured=(
        "A range test (Smith 2017): 112 steps with the run's own network, optimiser and objective on four patches, the "
        "rate rising from 1e-6 to 10; afterwards the state is as it was, to the last bit. Useful is from where a tenth "
        "of the fall of r is done to a third of the rate of the least r. A highest rate 30 times below or 5 times "
        "above is named, one where r climbs half of its fall again stops. The patches are learnt by heart "
        "meanwhile, so the upper end is a bound and no recommendation: a rate below it may still be too high. "
        "Full audit only; `volumen audit rate` prints the curve."
    ),
    remedy="Take a rate near the lower end, at most about ten times above it, and compare two of them in short runs.",
    thorough=check_rate,
)
