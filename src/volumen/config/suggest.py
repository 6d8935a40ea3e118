"""What a misspelt key was probably meant to be: a neighbour, a key of another kind, or a key of another section."""

import difflib
import re
from collections.abc import Iterable, Sequence

from volumen.config.places import ModelClass, Place, inner_place, kinds_of, model_for, models_at

_SURE = 0.75
_LIKELY = 0.6
_ELSEWHERE = 0.7  # a key of another section must be closer than a neighbour to be worth naming
_MOST = 3
_LONGEST = 64  # no key and no choice is longer, and searching takes time


def close_to(word: str, words: Iterable[str], cutoff: float = _LIKELY) -> str | None:
    """The closest of `words`, or None; case and `-` against `_` do not count."""
    return next(iter(_closest(word, words, cutoff, 1)), None)


def _closest(word: str, words: Iterable[str], cutoff: float, most: int) -> list[str]:
    if len(word) > _LONGEST:
        return []
    plain = {_plain(candidate): candidate for candidate in reversed(list(words))}
    return [plain[close] for close in difflib.get_close_matches(_plain(word), list(plain), n=most, cutoff=cutoff)]


def unknown_key_text(root: ModelClass, place: Place, kind: str | None, path: tuple[str, ...]) -> str:
    """The message about a key that the schema does not have.

    Args:
        root: the schema.
        place: the section in which the key was written.
        kind: the kind chosen there, if it is a union.
        path: the whole path, the unknown key last.
    """
    section, key = path[:-1], path[-1]
    model = model_for(place.annotation, kind)
    allowed = list(model.model_fields) if model is not None else []
    if owners := _other_kinds(place, key):
        hint = f"it belongs to kind {' | '.join(owners)} and this is {kind}; change the kind or remove the key"
    elif meant := _meant(root, section, key, allowed):
        hint = f"did you mean {' or '.join(meant)}?"
    else:
        hint = "remove it"
    return f"unknown key {key!r}; {hint} (keys here: {', '.join(allowed)})"


def all_keys(root: ModelClass) -> list[str]:
    """Every dotted key of the schema that can be addressed without an index."""
    return list(dict.fromkeys(_keys(root, "", ())))


def _keys(
    model: ModelClass, prefix: str, inside: Sequence[ModelClass], met: set[ModelClass] | None = None
) -> Iterable[str]:
    """Keys below a model; with `met`, those of a section that stands in several places only for the first of them."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in models_at(field.annotation):
            if inner in (*inside, model) or (met is not None and inner in met):
                continue
            if met is not None:
                met.add(inner)
            yield from _keys(inner, f"{prefix}{name}.", (*inside, model), met)
        item = inner_place(field.annotation, 0)
        for inner in models_at(item.annotation) if item is not None else ():
            if inner not in (*inside, model):
                yield from _keys(inner, f"{prefix}{name}[].", (*inside, model))


def _meant(root: ModelClass, section: tuple[str, ...], key: str, allowed: list[str]) -> list[str]:
    """Full keys that were probably meant: a close neighbour, the same word elsewhere, then what is merely similar."""
    if len(key) > _LONGEST:
        return []
    neighbours = [".".join((*section, name)) for name in _closest(key, allowed, _LIKELY, 2)]
    if close_to(key, allowed, _SURE):
        return neighbours if _plain(key) in _last(neighbours[-1]).split("_") else neighbours[:1]
    named: dict[str, list[str]] = {}  # short name -> the keys it may stand for
    keys = list(dict.fromkeys(_keys(root, "", (), set())))
    for candidate in keys:
        for name in _short_names(candidate):
            named.setdefault(_plain(name), []).append(candidate)
    same = named.get(_plain(key), [])
    similar = named.get(close_to(key, named, _ELSEWHERE) or "", [])
    return (
        same[:_MOST]
        or _sharing_words(key, keys, 1.0)
        or neighbours
        or similar[:_MOST]
        or _sharing_words(key, keys, 0.5)
    )


def _sharing_words(key: str, candidates: Iterable[str], least: float) -> list[str]:
    """The keys that hold the largest share of the words of `key`, if it is at least `least` and they are few.

    `background_weight` finds loss.class_weights.background, and `batch_size` data.batch.
    """
    words = _words(key)
    ranked: dict[float, list[str]] = {}
    for candidate in candidates:
        theirs = _words(candidate)
        shared = sum(any(_same_word(word, other) for other in theirs) for word in words) / len(words)
        # Half the words may be chance, unless they are the whole name of the key.
        if shared >= least and (shared > 0.5 or any(_same_word(word, _last(candidate)) for word in words)):
            ranked.setdefault(shared, []).append(candidate)
    best = ranked[max(ranked)] if ranked else []
    outermost = [one for one in best if not any(one.startswith(f"{other}.") for other in best)]
    return sorted(outermost, key=lambda one: len(_words(one))) if len(outermost) <= _MOST else []


def _words(key: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", key.lower()) if word] or [key]


def _same_word(one: str, other: str) -> bool:
    """`grad` and `gradient`, `weight` and `weights` are the same word."""
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= 3 and "_" not in long and long.startswith(short))


def _short_names(key: str) -> tuple[str, ...]:
    """What a flat configuration would call a key: `gamma`, and `focal_gamma` for loss.terms.focal.gamma."""
    parts = key.replace("[]", "").split(".")
    return (parts[-1],) if len(parts) == 1 else (parts[-1], f"{parts[-2]}_{parts[-1]}")


def _other_kinds(place: Place, key: str) -> list[str]:
    """The kinds of this union that have the key; empty where there is no choice of kinds."""
    models = models_at(place.annotation)
    owners = (model for model in models if len(models) > 1 and key in model.model_fields)
    return [kind for owner in owners for kind in kinds_of(owner)]


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
