"""What a sweep may choose: factors with their values, and the configuration that a choice makes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from volumen.config.dump import config_hash
from volumen.config.layers import merge
from volumen.config.load import lay_over
from volumen.config.problems import ConfigError
from volumen.config.schema import Config
from volumen.config.source import Located, located
from volumen.experiments.sweep_halving import Value


@dataclass(frozen=True)
class Factor:
    """A key and what it may be."""

    key: str
    origin: str
    """`file:line`."""
    low: float | None = None
    """Of a range; None for choices."""
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    """Only whole numbers."""
    choices: Mapping[str, Any] = field(default_factory=dict)
    """Values by their names."""
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of choices of other factors, above this one, with which this one counts."""

    @property
    def corners(self) -> tuple[Value, ...]:
        """The ends of a range, or all choices."""
        if self.low is None:
            return tuple(self.choices)
        return (self._number(self.low), self._number(self.last))

    @property
    def last(self) -> float:
        """The largest value that a range's steps reach."""
        assert self.low is not None
        step = 1.0 if self.whole and self.step is None else self.step
        if step is None or self.log:
            return self.high
        return self.low + math.floor((self.high - self.low) / step + 1e-9) * step

    @property
    def grid(self) -> tuple[Value, ...] | None:
        """Every value; None for a range of fractions without a step."""
        if self.low is None:
            return tuple(self.choices)
        step = 1.0 if self.whole and self.step is None else self.step
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self._number(self.low + number * step) for number in range(count))

    def _number(self, value: float) -> Value:
        return int(value) if self.whole else float(f"{value:.12g}")

    def counts(self, parameters: Mapping[str, Value]) -> bool:
        """Whether it counts beside these values of the factors above it."""
        return all(parameters.get(key) in names for key, names in self.when.items())

    def written(self, value: Value) -> Any:
        """A value as a configuration has it."""
        return self.choices[str(value)] if self.low is None else value


@dataclass(frozen=True)
class Space:
    """All that a sweep may choose."""

    factors: tuple[Factor, ...]

    def layer(self, parameters: Mapping[str, Value]) -> dict[str, Any]:
        """Values by factor as a configuration's nested values."""
        tree = Located({}, "")
        for factor in self.factors:
            if factor.key in parameters:
                inside = factor.written(parameters[factor.key])
                for part in reversed(factor.key.split(".")):
                    inside = {part: inside}
                tree = merge(tree, located(inside, ""), [])
        plain: dict[str, Any] = tree.plain()
        return plain

    def config(self, base: Config, parameters: Mapping[str, Value]) -> Config:
        """A configuration with these values.

        Raises:
            ConfigError: The schema refuses them.
        """
        return lay_over(base, located(self.layer(parameters), "the sweep"), "the trial").config

    def own(self, base: Config) -> dict[str, Value]:
        """The configuration's own values: of a range if they lie in it; of choices, the one that changes nothing."""
        found: dict[str, Value] = {}
        for factor in self.factors:
            if not factor.counts(found):
                continue
            if factor.low is None:
                name = next((one for one in factor.choices if _same(self, base, factor.key, one)), None)
                found |= {} if name is None else {factor.key: name}
            else:
                value = value_at(base, factor.key)
                if type(value) in (int, float) and factor.low <= value <= factor.high:
                    found[factor.key] = factor._number(value)
        return found


def _same(space: Space, base: Config, key: str, name: str) -> bool:
    try:
        return config_hash(space.config(base, {key: name})) == config_hash(base)
    except ConfigError:
        return False


def value_at(config: Config, key: str) -> Any:
    """A configuration's value at a dotted key; None where it has none."""
    node: Any = config.model_dump(mode="json")
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node
