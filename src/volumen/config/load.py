"""Loading a configuration: files, presets and overrides become one checked, frozen model.

The steps: read the source and what it is based on (`inheritance`), lay files and overrides over the schema's defaults
(`layers`), let pydantic check the result in its strict JSON mode, and report every mistake at once with the line it
stands on (`explain`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from volumen.config.dump import Step, config_hash, dotted, leaves
from volumen.config.explain import explain
from volumen.config.inheritance import PRESET, bases_of, read_layer, read_layers
from volumen.config.layers import merge, override_layer, with_defaults
from volumen.config.places import place_of
from volumen.config.problems import DEFAULT, OVERRIDE, ConfigError, Problem
from volumen.config.schema import Config
from volumen.config.source import Located, located

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class LoadedConfig(Generic[ModelT]):
    """A configuration and where it came from."""

    config: ModelT
    origins: Mapping[str, str]
    """For each dotted key that holds a value: `file:line`, `override` or `default`."""
    hash: str
    """SHA-256 of the configuration's values, see `config_hash`."""
    sources: tuple[str, ...]
    """The files and presets that were read, most basic first."""

    def is_meant(self, key: str) -> bool:
        """Whether the user set a key, by a file or an override; what a preset says is ours."""
        origin = self.origins.get(key, DEFAULT)
        return origin != DEFAULT and not origin.startswith(PRESET)


def load_config(source: Path | str, overrides: Sequence[str] = ()) -> LoadedConfig[Config]:
    """Load and check the configuration of a run.

    Args:
        source: a YAML file, or `preset:NAME`.
        overrides: texts like `training.epochs=3`, the command line's `-o`.

    Raises:
        ConfigError: with every problem found.
    """
    return load_model(Config, source, overrides)


def parent_of(loaded: LoadedConfig[Config]) -> LoadedConfig[Config] | None:
    """What a configuration's file is based on; of a file that is based on nothing, the file without overrides.

    Its sources are what the file names as its bases. Where the parent leaves the data set open, it is the child's.
    None where it is no whole configuration by itself.
    """
    problems: list[Problem] = []
    source = loaded.sources[-1]
    try:
        layers = read_layers(source, problems)
        open_data = located({"data": {"dataset": str(loaded.config.data.dataset)}}, DEFAULT)
        parent = _join(Config, source, [open_data, *(layers[:-1] or layers)], (), problems)
    except ConfigError:
        return None
    return replace(parent, sources=bases_of(source) or (source,))


def load_model(model: type[ModelT], source: Path | str, overrides: Sequence[str] = ()) -> LoadedConfig[ModelT]:
    """Load and check a file against any pydantic model; see `load_config`."""
    problems: list[Problem] = []
    return _join(model, str(source), read_layers(source, problems), overrides, problems)


def read_model(model: type[ModelT], path: Path) -> ModelT:
    """A YAML file that stands for itself, without `base:`, checked against any pydantic model.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[Problem] = []
    layer = read_layer(path, problems)
    if layer is None:
        raise ConfigError(str(path), problems)
    return _join(model, str(path), [layer], (), problems).config


def override_config(config: Config, overrides: Sequence[str], source: str) -> LoadedConfig[Config]:
    """Lay overrides over a configuration that was checked before, such as a checkpoint's or a bundle's.

    Args:
        config: the configuration; it stays as it is.
        overrides: texts like `inference.mirror=true`.
        source: what to call the configuration in errors.

    Raises:
        ConfigError: with every problem found.
    """
    return _join(Config, source, [located(config.model_dump(mode="json"), source)], overrides, [])


def model_of(
    model: type[ModelT], values: Mapping[str, object], overrides: Sequence[str], source: str
) -> LoadedConfig[ModelT]:
    """Plain values and overrides against any pydantic model; `source` is what errors call the values.

    Raises:
        ConfigError: with every problem found.
    """
    return _join(model, source, [located(dict(values), source)], overrides, [])


def lay_over(config: Config, layer: Located, source: str) -> LoadedConfig[Config]:
    """Lay what a part of a file says over a configuration that was checked before.

    Args:
        config: the configuration; it stays as it is.
        layer: keys and values with the lines they stand on.
        source: what to call the result in errors.

    Raises:
        ConfigError: with every problem found, at the layer's own lines.
    """
    return _join(Config, source, [located(config.model_dump(mode="json"), source), layer], (), [])


def _join(
    model: type[ModelT], source: str, layers: Sequence[Located], overrides: Sequence[str], problems: list[Problem]
) -> LoadedConfig[ModelT]:
    """Layers and overrides as one checked model."""
    above = override_layer(overrides, problems)
    if any(problem.blocking for problem in problems):
        raise ConfigError(source, problems)
    root = place_of(model)
    tree = with_defaults(Located({}, layers[-1].origin), root)
    for layer in (*layers, above):
        tree = with_defaults(merge(tree, layer, problems), root)
    try:
        # In JSON mode a strict model takes a list for a tuple and an integer for a number, but no text for either.
        config = model.model_validate_json(json.dumps(tree.plain()))
    except ValidationError as error:
        told = {(problem.origin, problem.key) for problem in problems}  # such as a number that could not be read
        found = explain(error, tree, model)
        problems += [problem for problem in found if (problem.origin, problem.key) not in told]
        raise ConfigError(source, problems) from None
    if problems:
        raise ConfigError(source, problems)
    origins = {dotted(path): _origin(tree, path) for path, _ in leaves(config)}
    sources = tuple(layer.origin for layer in layers)
    return LoadedConfig(config, MappingProxyType(origins), config_hash(config), sources)


def _origin(tree: Located, path: tuple[Step, ...]) -> str:
    """The origin of a value: its own line; the default's where the tree does not reach it."""
    node: Located | None = tree
    for key in path:
        node = None if node is None else node.child(key)
    if node is None:
        return DEFAULT
    if isinstance(node.value, list) and any(item.origin == OVERRIDE for item in node.value):
        return OVERRIDE  # `-o data.patch.0=32` changed one item of a list that counts as one value
    return node.origin
