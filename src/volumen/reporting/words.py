"""How names and numbers of the records are said to people, the same everywhere."""

import math

from volumen.metrics.leaderboard import WEIGHTS

SAID = {
    "dice": "Dice",
    "cldice": "clDice",
    "voi": "VOI",
    "iou": "IoU",
    "swa": "SWA",
    "resenc": "ResEnc",
    "adamw": "AdamW",
}

PROGRESS = "r: 1 is the loss of the best constant prediction, 0 the lowest that the objective allows"
"""How losses are read."""
LEADERBOARD_LEGEND = (
    "score: {:.2f} topo + {:.2f} surface Dice + {:.2f} VOI, 1 is best; topo: matched components, tunnels, cavities; "
    "surface Dice: surface within two voxels of the other one; VOI falls with split and merge, the bits of information "
    "lost where sheets are broken up and where they are joined"
).format(*WEIGHTS)
OVERLAP_LEGEND = "surface - true: predicted minus true share of surface, in percentage points"


def words(name: str) -> str:
    """A key as words: `surface_dice` is surface Dice."""
    return " ".join(SAID.get(part, part) for part in name.split("_"))


def number(value: float, style: str = ".3f") -> str:
    """A number for people; a dash where a ratio has no value."""
    return "-" if math.isnan(value) else f"{value:{style}}"
