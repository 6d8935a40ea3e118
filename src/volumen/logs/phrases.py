"""The words before a number of a text: its name, what that means, and where the words lead."""

import re
from dataclasses import dataclass
from functools import lru_cache

from volumen.logs.names import (
    EPOCH_WORDS,
    IGNORED,
    KNOWN_WORDS,
    LOSS_WORDS,
    PASSING_WORDS,
    SETTING_KINDS,
    SPLITS,
    Meaning,
    meaning_of,
    words_of,
)

LONGEST_GAP = 160
"""Characters before a number among which its name is looked for."""
_CUT = re.compile(r"[,;:|()\[\]{}<>#→/]|\s[-–—~]+\s|\s{3,}|\t|\.\s|\band\b")
_SEPARATORS = " \t:='\"([{*~≈`_#"


@dataclass(frozen=True)
class Gap:
    """What stands before a number, up to the number before."""

    name: str
    meaning: Meaning
    split: str
    """Of the last of its words that is one."""
    brackets: str
    opens_list: bool
    is_epoch: bool


@lru_cache(maxsize=16384)
def gap_of(gap: str) -> Gap:
    """What stands in a gap, of which its last `LONGEST_GAP` characters are given."""
    name, explicit = _name_in(gap)
    split = next((SPLITS[word] for word in reversed(words_of(gap)) if word in SPLITS), "")
    is_epoch = bool(EPOCH_WORDS & set(words_of(name))) and meaning_of(name).kind in ("epoch", "planned_epochs")
    brackets = "".join(letter for letter in gap if letter in "([{)]}")
    meaning = _meaning_of_words(name, explicit) if name else IGNORED
    return Gap(name, meaning, split, brackets, gap.rstrip().endswith("["), is_epoch)


def _name_in(gap: str) -> tuple[str, bool]:
    """The name that a gap before a number ends with, and whether a sign stands between name and number."""
    bare = gap.rstrip(_SEPARATORS)
    dashed = bare.rstrip(" -–")
    sign = gap[len(dashed) :]
    explicit = any(letter in sign for letter in ":=[(-–'\"")
    pieces = _CUT.split(dashed)
    name = pieces[-1]
    if not name.strip() and len(pieces) > 1:
        return "", explicit
    if len(pieces) > 1 and "/" in dashed:  # `train/loss`
        whole = re.search(r"[\w./]+(?: [\w./]+)*$", dashed)
        name = whole[0] if whole and "/" in whole[0] else name
    return name.strip(_SEPARATORS + " *"), explicit


def _meaning_of_words(name: str, explicit: bool) -> Meaning:
    """What a name in a text means: all its words are known, or the last of them where a sign follows."""
    words = words_of(name)
    found = meaning_of(name)
    if explicit and found.kind in SETTING_KINDS and words[-1] != "epochs":
        return found
    if not words or PASSING_WORDS & set(words):
        return IGNORED
    if words[-1] == "epochs" and found.kind == "epoch":
        return Meaning("planned_epochs") if explicit else IGNORED
    if all(word in KNOWN_WORDS for word in words):
        return found
    if not explicit:
        return IGNORED
    parts = name.split()
    for start in range(1, len(parts)):
        last = " ".join(parts[start:])
        if all(word in KNOWN_WORDS for word in words_of(last)):
            found = meaning_of(last)
            return IGNORED if found.kind == "epoch" else found
    last = parts[-1] if parts else name
    found = meaning_of(last)
    is_loss = LOSS_WORDS & set(words_of(last)) or found.kind == "metric"
    return found if is_loss or found.kind == "weight" else IGNORED
