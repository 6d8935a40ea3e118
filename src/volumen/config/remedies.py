"""Remedies to try on a configuration: a file of names, each with the settings that it changes.

    calmer:
      why: the loss jumps in the first steps
      optimiser.learning_rate: 1e-4
    dice_only:
      loss.terms: {soft_dice: {weight: 1}, cross_entropy: {weight: 0}}

Keys are those of the configuration, dotted as on the command line, nested, or both. A list of such entries is read as
well, each with a `name`. Every mistake is told at its line, as in a configuration.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from volumen.config.compare import Difference, diff_configs, factors_of
from volumen.config.describe import got_text, short_text
from volumen.config.layers import merge
from volumen.config.load import lay_over
from volumen.config.problems import ConfigError, Problem
from volumen.config.schema import Config
from volumen.config.source import Located, Tree, located, read_tree

WHY, NAME, CONTROL = "why", "name", "control"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_SAME_DATA = "every run sees the same data: change it in the configuration"
_SAME_PROTOCOL = "every run is validated in the same way: change it in the configuration"
_LENGTH = "every run does the steps that --steps says"
_MASKS = "the masks of all runs are made in one way; `volumen tune` compares ways to make them"
FIXED: dict[str, str] = {
    "name": "the remedy's name is its key",
    "experiment": f"write `{WHY}: TEXT`",
    "seed": "the seeds are the same for all, and --seeds says how many",
    "device": "every run is computed on the same device",
    "data.dataset": _SAME_DATA,
    "data.folds": _SAME_DATA,
    "data.fold": _SAME_DATA,
    "data.workers": "it changes no sample",
    "data.on_device": "every run is computed on the same device",
    "data.sampling.patches_per_epoch": _LENGTH,
    "training.epochs": _LENGTH,
    "training.early_stopping": _LENGTH,
    "training.validate_every_epochs": _SAME_PROTOCOL,
    "training.validation": _SAME_PROTOCOL,
    "training.selection_metric": _SAME_PROTOCOL,
    "model.initial_weights": "every run begins with the same weights: give --from RUN",
    "inference": _MASKS,
    "postprocessing": _MASKS,
}
"""What no remedy may change, keys or sections, and what to do in place of it."""


@dataclass(frozen=True)
class Remedy:
    """A change to try."""

    name: str
    why: str
    config: Config
    """The configuration with the change."""
    changes: tuple[Difference, ...]
    """Keys whose value differs from the configuration's; none where it says these values already."""
    written: dict[str, Any]
    """The change as plain nested values."""

    @property
    def factors(self) -> tuple[str, ...]:
        """What is changed, in the words of an experiment: objective, learning rate, schedule and so on."""
        return tuple(factors_of(self.changes))


def load_remedies(path: Path, config: Config) -> tuple[Remedy, ...]:
    """Read a file of remedies.

    Args:
        path: YAML.
        config: What they change.

    Raises:
        ConfigError: With every problem found, each at its line.
    """
    problems: list[Problem] = []
    tree = read_tree(path, str(path), problems)
    if tree is None:
        raise ConfigError(str(path), problems)
    return _remedies(tree, config, str(path), problems)


def remedies_of(changes: Mapping[str, Mapping[str, Any]], config: Config, source: str) -> tuple[Remedy, ...]:
    """Remedies from plain values, as a file would hold them; raises as `load_remedies`."""
    return _remedies(located(changes, source), config, source, [])


def _remedies(tree: Located, config: Config, source: str, problems: list[Problem]) -> tuple[Remedy, ...]:
    found: dict[str, Remedy] = {}
    for name, entry, origin in _entries(tree, problems):
        wrong = _wrong_name(name, found)
        if wrong:
            problems.append(Problem(origin, name, wrong))
            continue
        told = len(problems)
        why, layer = _parts(name, entry, config, problems)
        if len(problems) == told:
            try:
                changed = lay_over(config, layer, source).config
            except ConfigError as error:
                problems += [replace(one, key=".".join(filter(None, (name, one.key)))) for one in error.problems]
                continue
            found[name] = Remedy(name, why, changed, tuple(diff_configs(config, changed)), layer.plain())
    if not found and not problems:
        problems.append(Problem(tree.origin, "", "there is no remedy; write `NAME: {KEY: VALUE}`"))
    if problems:
        raise ConfigError(source, problems)
    return tuple(found.values())


def _wrong_name(name: str, found: Mapping[str, Remedy]) -> str:
    if name == CONTROL:
        return f"`{CONTROL}` is the configuration as it is; choose another name"
    if name in found:
        return "the name is there twice; choose another one"
    if _NAME.fullmatch(name) is None:
        return "a name is up to 60 letters, digits, dots, hyphens and underscores; `KEY: VALUE` goes below it"
    return "" if name not in Config.model_fields else "this is a key of the configuration; write it below a name"


def _entries(tree: Located, problems: list[Problem]) -> Iterator[tuple[str, Located, str]]:
    """Name, what stands below it, and where."""
    if isinstance(tree.value, dict):
        for name, entry in tree.value.items():
            yield name, entry, entry.origin
    elif isinstance(tree.value, list):
        for item in tree.value:
            inside = item.value if isinstance(item.value, dict) else {}
            named = inside.get(NAME)
            if named is not None and isinstance(named.value, str):
                yield (
                    named.value,
                    Located({key: one for key, one in inside.items() if key != NAME}, item.origin),
                    (named.origin),
                )
            elif len(inside) == 1:
                ((name, entry),) = inside.items()
                yield name, entry, entry.origin
            else:
                text = f"expected a remedy with a `{NAME}`, got {got_text(item.plain())}; write `- {NAME}: TEXT`"
                problems.append(Problem(item.origin, "", text))
    elif tree.value is not None:
        problems.append(Problem(tree.origin, "", "expected remedies, `NAME: {KEY: VALUE}`, got a single value"))


def _parts(name: str, entry: Located, config: Config, problems: list[Problem]) -> tuple[str, Located]:
    """Why a remedy might help, and what it changes, as a tree of the configuration's shape."""
    if not isinstance(entry.value, dict):
        text = f"expected the settings that it changes, got {got_text(entry.plain())}; write KEY: VALUE below it"
        problems.append(Problem(entry.origin, name, text))
        return "", entry
    why = entry.value.get(WHY, Located("", entry.origin))
    if not isinstance(why.value, str):
        problems.append(Problem(why.origin, f"{name}.{WHY}", f"expected text, got {got_text(why.plain())}"))
    settings = {key: item for key, item in entry.value.items() if key != WHY}
    if not settings:
        problems.append(Problem(entry.origin, name, "it changes nothing; write KEY: VALUE below it"))
    layer = Located({}, entry.origin)
    for path, item in _leaves(settings, ()):
        key = ".".join(path)
        reason = next((text for at, text in FIXED.items() if key == at or key.startswith(f"{at}.")), "")
        if reason:
            problems.append(Problem(item.origin, f"{name}.{key}", f"this stays as it is: {reason}"))
        elif not all(path):
            problems.append(Problem(item.origin, f"{name}.{key}", "the key is not words joined by dots"))
        elif not _put(layer, path, item):
            problems.append(Problem(item.origin, f"{name}.{key}", "the key is written twice; keep one of the two"))
    base = located(config.model_dump(mode="json"), "")
    return str(why.value), _with_items(layer, base, (name,), problems)


def _leaves(tree: Tree, above: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Located]]:
    """Everything that is no group of keys, by its whole path; dots in keys are steps."""
    for key, item in tree.items():
        path = (*above, *(part.strip() for part in key.split(".")))
        if isinstance(item.value, dict) and item.value:
            yield from _leaves(item.value, path)
        else:
            yield path, item


def _put(layer: Located, path: Sequence[str], item: Located) -> bool:
    """Add a value at a path; False where there is one already."""
    node = layer
    for part in path[:-1]:
        assert isinstance(node.value, dict)
        inner = node.value.setdefault(part, Located({}, item.origin))
        if not isinstance(inner.value, dict):
            return False
        node = inner
    assert isinstance(node.value, dict)
    return path[-1] not in node.value and node.value.setdefault(path[-1], item) is item


def _with_items(layer: Located, base: Located | None, path: tuple[str, ...], problems: list[Problem]) -> Located:
    """Indices as keys change items of the configuration's own lists, as on the command line."""
    if not isinstance(layer.value, dict):
        return layer
    if base is None or not isinstance(base.value, list) or not all(key.isdecimal() for key in layer.value):
        inside = {
            key: _with_items(item, None if base is None else base.child(key), (*path, key), problems)
            for key, item in layer.value.items()
        }
        return Located(inside, layer.origin)
    items = list(base.value)
    for key, item in layer.value.items():
        if int(key) < len(items):
            items[int(key)] = merge(items[int(key)], item, problems)
        else:
            text = f"there is no item {short_text(int(key))} in this list (it has {len(items)}, counted from 0)"
            problems.append(Problem(item.origin, ".".join((*path, key)), text))
    return Located(items, layer.origin)
