"""Is a fold's held-out part new to what learns: scrolls on both sides."""

from collections.abc import Iterator

from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity


def check_division(context: Context) -> Iterator[Finding]:
    """Whether scrolls stand on both sides of the fold."""
    dataset = context.dataset
    training, validation = ([dataset.case(i) for i in ids] for ids in (context.training, context.validation))
    shared = sorted({case.scroll_id for case in training} & {case.scroll_id for case in validation})
    if shared and len({case.scroll_id for case in dataset.labelled}) > 1:
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="training and validation share scrolls",
            evidence=f"scrolls on both sides: {', '.join(shared[:5])}; volumes of one scroll are alike",
            causes=("the folds were made by volume",),
            remedies=("volumen folds PREPARED --by scroll",),
            where=context.where("data.folds"),
        )
