"""Are patches drawn as they were asked for?"""

from collections.abc import Iterator

from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity

DRAWS = 200
SAMPLING_ERROR = 0.15


def check_sampling(context: Context) -> Iterator[Finding]:
    """Whether 200 drawn patches lie where they were asked for, and how often they had to be drawn again."""
    wanted = context.config.data.sampling
    draws = [context.patches.draw(0, index) for index in range(min(DRAWS, max(len(context.patches), 1)))]
    centred = sum(draw.centred for draw in draws) / len(draws)
    redrawn = sum(draw.attempts > 1 for draw in draws) / len(draws)
    if abs(centred - wanted.surface_share) > SAMPLING_ERROR and len(draws) >= 50:
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="patches are not drawn as requested",
            evidence=f"{centred:.0%} of {len(draws)} patches lie on surface, {wanted.surface_share:.0%} were asked for",
            causes=("volumes without surface",),
            remedies=("change data.sampling.surface_share to what the data set holds",),
            where=context.where("data.sampling.surface_share"),
        )
    if redrawn > 0.5:
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="most patches have to be drawn again",
            evidence=f"{redrawn:.0%} of {len(draws)} were labelled to less than {wanted.minimum_valid_share:.0%}",
            causes=("the minimum asks for more than the labels hold",),
            remedies=("lower data.sampling.minimum_valid_share",),
            where=context.where("data.sampling.minimum_valid_share"),
        )
