"""The file of what a sweep may choose: configuration keys, each with a range or with choices.

    optimiser.learning_rate: {from: 1e-5, to: 1e-2, log: true}
    model.depth: {from: 2, to: 4}
    model.norm: [instance, batch]
    loss.terms:
      choices:
        dice: {soft_dice: {weight: 1}, cross_entropy: {weight: 0}}
        both: {soft_dice: {weight: 1}, cross_entropy: {weight: 1}}
    optimiser.momentum: {from: 0.8, to: 0.99, when: {optimiser.kind: sgd}}

A range holds whole numbers where its ends are whole and the key takes no fraction, or where it has a whole `step`.
Every mistake is told at its line, as in a configuration.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volumen.config.dump import canonical
from volumen.config.problems import ConfigError, Problem
from volumen.config.remedies import FIXED
from volumen.config.schema import Config
from volumen.config.source import Located, read_tree
from volumen.experiments.sweep_corners import checked
from volumen.experiments.sweep_space import Factor, Space

FROM, TO, STEP, LOG, CHOICES, WHEN = "from", "to", "step", "log", "choices", "when"
_RANGE = {FROM, TO, STEP, LOG, WHEN}
MOST_FACTORS, MOST_CHOICES = 50, 100
STAYS: dict[str, str] = {
    **FIXED,
    "name": "every trial has a name of its own",
    "experiment": "it changes nothing that is trained",
    "seed": "every trial has the same seed, and --confirm repeats the best with others",
    "data.sampling.patches_per_epoch": "every trial has the length that --epochs or --steps says",
    "training.epochs": "every trial has the length that --epochs or --steps says",
    "training.early_stopping": "every trial has the length that --epochs or --steps says",
    "training.selection_metric": "every trial is judged by the same metric: give --metric",
    "training.keep_going": "it changes nothing that is trained",
    "training.monitoring": "it changes nothing that is trained",
    "model.initial_weights": "every trial begins with the same weights: set it in the configuration",
}
"""What no sweep chooses, keys or sections, and what to do in place of it."""


def load_space(path: Path, config: Config) -> Space:
    """Read a space and check its keys, its ranges' ends and its choices against a configuration.

    Raises:
        ConfigError: With every problem found, each at its line.
    """
    problems: list[Problem] = []
    tree = read_tree(path, str(path), problems)
    factors: dict[str, Factor] = {}
    if tree is not None:
        if not isinstance(tree.value, dict) or not tree.value:
            problems.append(Problem(tree.origin, "", "expected keys of the configuration, `KEY: {from: 1, to: 9}`"))
        elif len(tree.value) > MOST_FACTORS:
            problems.append(Problem(tree.origin, "", f"more than {MOST_FACTORS} keys; search in fewer at a time"))
        else:
            for key, item in tree.value.items():
                factor = _factor(key, item, factors, problems)
                if factor is not None:
                    factors[key] = factor
    if not problems:
        factors = {one.key: one for one in checked(tuple(factors.values()), config, problems)}
    if problems:
        raise ConfigError(str(path), problems)
    return Space(tuple(factors.values()))


def _factor(key: str, item: Located, above: Mapping[str, Factor], problems: list[Problem]) -> Factor | None:
    told = len(problems)
    _refuse_fixed(key, item, problems)
    other = next((one for one in above if _within(key, one) or _within(one, key)), "")
    if other and not (other.endswith(".kind") or key.endswith(".kind")):
        problems.append(Problem(item.origin, key, f"{other} is searched already and is a part of it: keep one of them"))
    if len(problems) > told:
        return None
    if isinstance(item.value, list):
        return _with_choices(key, item, item, {}, problems)
    if not isinstance(item.value, dict):
        text = "expected a range `{from: 1, to: 9}` or a list of choices, got a single value: put it into brackets"
        problems.append(Problem(item.origin, key, text))
        return None
    when = _conditions(key, item.value.get(WHEN), above, problems)
    if CHOICES in item.value:
        _refuse_unknown(key, item, {CHOICES, WHEN}, problems)
        made = _with_choices(key, item, item.value[CHOICES], when, problems)
    else:
        _refuse_unknown(key, item, _RANGE, problems)
        made = _with_range(key, item, when, problems)
    return made if len(problems) == told else None


def _refuse_fixed(key: str, item: Located, problems: list[Problem]) -> None:
    """Tell of a key, or of keys within choices of a section, that no sweep chooses."""
    listed = item.value.get(CHOICES, item) if isinstance(item.value, dict) else item
    choices = list(listed.value.values()) if isinstance(listed.value, dict) else listed.value
    choices = choices if isinstance(choices, list) else []
    keys = {key: item.origin} | {f"{key}.{part}": origin for one in choices for part, origin in _inside(one)}
    for inside, origin in keys.items():
        reason = next((why for at, why in STAYS.items() if _within(inside, at)), "")
        if reason:
            problems.append(Problem(origin, inside, f"this stays as it is: {reason}"))


def _inside(item: Located) -> list[tuple[str, str]]:
    """Every key below a value, dotted, and its line."""
    found = []
    for key, one in item.value.items() if isinstance(item.value, dict) else ():
        found += [(key, one.origin), *((f"{key}.{rest}", origin) for rest, origin in _inside(one))]
    return found


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _refuse_unknown(key: str, item: Located, known: set[str], problems: list[Problem]) -> None:
    assert isinstance(item.value, dict)
    for name, inside in item.value.items():
        if name not in known:
            expected = ", ".join(sorted(known))
            text = f"{name} is not known here, only {expected}; values that are mappings go below `{CHOICES}`"
            problems.append(Problem(inside.origin, key, text))


def _with_choices(
    key: str, item: Located, listed: Located, when: Mapping[str, tuple[str, ...]], problems: list[Problem]
) -> Factor | None:
    if isinstance(listed.value, dict):
        named = {name: inside.plain() for name, inside in listed.value.items()}
    else:
        items = listed.value if isinstance(listed.value, list) else []
        named = {_name(one.plain()): one.plain() for one in items}
        if len(named) < len(items):
            problems.append(Problem(listed.origin, key, "a choice stands there twice; keep one of them"))
        if any(isinstance(one.value, dict) for one in items):
            text = f"choices that are mappings need names: write `{CHOICES}: {{NAME: {{...}}}}`"
            problems.append(Problem(listed.origin, key, text))
    if not 2 <= len(named) <= MOST_CHOICES:
        text = f"expected 2 to {MOST_CHOICES} choices, got {len(named)}; set a single one in the configuration"
        problems.append(Problem(listed.origin, key, text))
        return None
    if any(len(name) > 60 or not name.isprintable() for name in named):
        text = f"a choice that is said in more than 60 letters needs a name: write `{CHOICES}: {{NAME: VALUE}}`"
        problems.append(Problem(listed.origin, key, text))
    return Factor(key, item.origin, choices=named, when=when)


def _name(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def _with_range(key: str, item: Located, when: Mapping[str, tuple[str, ...]], problems: list[Problem]) -> Factor | None:
    assert isinstance(item.value, dict)
    plain: dict[str, Any] = {name: inside.plain() for name, inside in item.value.items()}
    wrong = _wrong_range(plain)
    if wrong:
        problems.append(Problem(item.origin, key, wrong))
        return None
    low, high, step = plain[FROM], plain[TO], plain.get(STEP)
    whole = all(type(one) is int for one in (low, high, *([] if step is None else [step])))
    return Factor(key, item.origin, low, high, step, plain.get(LOG, False), whole, when=when)


def _wrong_range(plain: Mapping[str, Any]) -> str:
    low, high, step, log = plain.get(FROM), plain.get(TO), plain.get(STEP), plain.get(LOG, False)
    if low is None or high is None or not _is_number(low) or not _is_number(high):
        return "a range needs numbers `from` and `to`"
    if not low < high:
        return f"`from` ({low}) is not below `to` ({high}): exchange them, or set a single value in the configuration"
    if type(log) is not bool:
        return f"`log` is true or false, got {log}"
    if log and low <= 0:
        return f"a logarithmic range is above 0, got from {low}: raise it, or leave out `log`"
    if step is not None and (not _is_number(step) or not 0 < step <= high - low):
        return f"`step` is a number above 0 and at most {high - low}, got {step}"
    if log and step is not None:
        return "a logarithmic range has no `step`: leave one of the two out, or list the values"
    return ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _conditions(
    key: str, item: Located | None, above: Mapping[str, Factor], problems: list[Problem]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    if item is None:
        return found
    if not isinstance(item.value, dict) or not item.value:
        problems.append(Problem(item.origin, key, f"write `{WHEN}: {{OTHER.KEY: CHOICE}}`"))
        return found
    for other, inside in item.value.items():
        values: Sequence[Any] = inside.plain() if isinstance(inside.value, list) else [inside.plain()]
        names = tuple(map(_name, values))
        known = above[other].choices if other in above else {}
        if not known:
            text = f"`{WHEN}` names {other}, which has no choices above this line: list them there first"
            problems.append(Problem(inside.origin, key, text))
        elif any(name not in known for name in names):
            wrong = ", ".join(name for name in names if name not in known)
            problems.append(Problem(inside.origin, key, f"{other} has no choice {wrong}: it has {', '.join(known)}"))
        found[other] = names
    return found
