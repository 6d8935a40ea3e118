"""How names, texts and spans of time in the records are said to people, the same everywhere."""

import re

SAID = {
    "dice": "Dice",
    "cldice": "clDice",
    "voi": "VOI",
    "iou": "IoU",
    "swa": "SWA",
    "resenc": "ResEnc",
    "adamw": "AdamW",
}
# Controls (of terminals too), halves of characters, and what turns or hides the text around it.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """A text that neither drives a terminal nor turns a line around: what would is said by its number, as `\\x1b`.

    Ends of lines and tabs stay.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def words(name: str) -> str:
    """A key as words: `surface_dice` is surface Dice."""
    return " ".join(SAID.get(part, part) for part in name.split("_"))


def duration(seconds: float) -> str:
    """A time span for people: 42 s, 7 min 05 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
