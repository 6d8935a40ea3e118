"""What the schema says to a space, found before anything runs: unknown keys, ends of ranges and choices it refuses.

A value is refused where no combination of corners holds it. A combination that is refused while its values are fine by
themselves is no mistake of the file; a trial that draws it ends with the schema's reason.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from volumen.config.problems import ConfigError, Problem
from volumen.config.schema import Config
from volumen.experiments.sweep_halving import Value
from volumen.experiments.sweep_space import Factor, Space

MOST_COMBINATIONS = 200


def checked(factors: Sequence[Factor], config: Config, problems: list[Problem]) -> tuple[Factor, ...]:
    """The factors, ranges of whole numbers opened to fractions where their key takes them.

    Args:
        factors: As they were read.
        config: What they change.
        problems: Every value that the schema refuses is appended.
    """
    found = tuple(_opened(one, Space(tuple(factors)), config) for one in factors)
    space = Space(found)
    refused = {}
    for factor in found:
        for value in factor.corners:
            text = refusal(space, config, _with_parents(space, factor, value))
            if text:
                refused[factor.key, value] = text
    for combination in _combinations(space) if refused else ():
        wanted = [pair for pair in combination.items() if pair in refused]
        if wanted and not refusal(space, config, combination):
            for pair in wanted:
                refused.pop(pair, None)
    by_key = {one.key: one for one in found}
    for (key, value), text in refused.items():
        said = text.removeprefix(f"{key}: ")
        unknown = "unknown key" in said  # whatever its value is
        problems.append(Problem(by_key[key].origin, key, said if unknown else f"with {value}: {said}"))
    return found


def refusal(space: Space, config: Config, parameters: Mapping[str, Value]) -> str:
    """What the schema says against these values; empty where they are fine."""
    try:
        space.config(config, parameters)
    except ConfigError as error:
        return "; ".join(dict.fromkeys(": ".join(filter(None, (one.key, one.text))) for one in error.problems))
    return ""


def refused_share(space: Space, config: Config) -> tuple[int, int]:
    """How many of how many combinations of corners the schema refuses."""
    combinations = list(_combinations(space))
    return sum(bool(refusal(space, config, one)) for one in combinations), len(combinations)


def _opened(factor: Factor, space: Space, config: Config) -> Factor:
    """A range of whole numbers without a step, on a key that takes fractions, holds fractions."""
    if not factor.whole or factor.step is not None or factor.low is None:
        return factor
    opened = replace(factor, whole=False)
    between = Space(tuple(opened if one.key == factor.key else one for one in space.factors))
    return factor if refusal(between, config, _with_parents(between, opened, factor.low + 0.5)) else opened


def _with_parents(space: Space, factor: Factor, value: Value) -> dict[str, Value]:
    """A value, and what has to be chosen for it to count."""
    wanted: dict[str, Value] = {}
    waiting = [factor]
    by_key = {one.key: one for one in space.factors}
    while waiting:
        for key, names in waiting.pop().when.items():
            wanted[key] = names[0]
            waiting.append(by_key[key])
    return {**wanted, factor.key: value}


def _combinations(space: Space) -> Iterator[dict[str, Value]]:
    """Of corners, evenly among them where there are many."""
    corners = [one.corners for one in space.factors]
    total = 1
    for each in corners:
        total *= len(each)
    stride = -(-total // MOST_COMBINATIONS)
    stride += stride > 1 and stride % 2 == 0  # odd, so that no choice of two is always the same
    for values in itertools.islice(itertools.product(*corners), 0, None, stride):
        drawn: dict[str, Value] = {}
        for factor, value in zip(space.factors, values, strict=True):
            if factor.counts(drawn):
                drawn[factor.key] = value
        yield drawn
