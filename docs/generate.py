"""Write the pages that are made from code, and their pictures: in `PAGES`.

`tests/unit/test_documentation.py` fails while a page says something else than the code.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

import metric_costs
from api_page import api_page
from audit_your_code_page import code_page

from volumen.config.document import schema_rows
from volumen.config.inheritance import preset_names
from volumen.config.schema import Config
from volumen.data.pictures import encode_png
from volumen.files import write_atomically

DOCS = Path(__file__).parent

CONFIGURATION = """# Configuration

*Made from the schema by `./run docs`; do not edit.*

A configuration is a YAML file. Every key is read or is an error; all errors are reported at once, with file, line and
the nearest known key. `base:` names a file or `preset:NAME` to start from, `-o key=value` on the command line comes
last.

```yaml
base: preset:default
name: my-run
data:
  dataset: prepared/semi
  fold: 1
training:
  epochs: 100
```

```
volumen config show my-run.yaml --origins     # every value and where it comes from
volumen config check my-run.yaml              # all errors at once
volumen config diff preset:default my-run.yaml
volumen config schema --key training
```

Where a section has a `kind`, its other keys depend on it; another `kind` starts from that kind's own defaults.

`volumen train` says what a run changes in its parent: what its file is based on, or the file without `-o`. Names and
places do not count; where more than one factor differs, what comes of it cannot be credited to one of them.

Every number has bounds. A file may have a megabyte, 64 levels and 20,000 values (what an alias stands for counts each
time), and be based on 50 files; whole numbers stay below 2^64, and a number too large or too small for 64 bits is
refused, not rounded to infinity or to 0.

"""

METRIC = """# The leaderboard metric

*The figures and pictures of this page are computed by `./run docs`; do not edit.*

    score = 0.30 TopoScore + 0.35 surface Dice (tolerance 2 voxels) + 0.35 VOI score (alpha 0.3)

This is the number by which the Vesuvius Challenge's surface detection was ranked. volumen computes it exactly: integers
equal and floats within 1e-9 of the hosts' own code on every volume compared, at about a fiftieth of its cost
([benchmarks/RESULTS.md](../benchmarks/RESULTS.md)).

## Use it

```
volumen score prediction.tif truth.tif                       # TIFF, NPY, NPZ or Zarr
volumen score predictions/ labels/ --train-csv train.csv     # matched by name; means per scroll
volumen score predictions/ labels/ --json --csv scores.csv
```

A missing, extra or damaged file is named, and the other cases are scored all the same. So is one that holds what nobody
declared: a truth may hold 0, 1 and the ignored label (2), a prediction 0 and 1, or 0 and 255. `--ignore-label 255` says
that unlabelled voxels are called 255, `--surface 1,3` that these values are surface, `--surface any --ignore-label -1`
that sheets are numbered and all is labelled. Chunks that a Zarr store lacks are an error, or background with
`--missing-is-empty`. The table of scrolls may have commas, semicolons or tabs; one whose ids are not those of the files
(`7` for `00007`) is refused.

```python
from volumen.metrics import leaderboard, leaderboard_curve

found = leaderboard(prediction, truth)  # [Z, Y, X]; truth: 0 background, 1 surface, 2 unlabelled
found.score, found.topo.f1[1], found.surface_dice, found.voi.merge
curve = leaderboard_curve(probabilities, truth, [0.3, 0.4, 0.5, 0.6])
curve.best.threshold
```

## How it counts

1. Where the truth is 2 (unlabelled), both volumes become background before anything else. What is predicted there
   neither costs nor earns anything, but the border of the unlabelled part cuts sheets.
2. **TopoScore.** The volume is cut into 2 x 2 x 2 tiles. In each one the components (6-connected), tunnels and
   cavities of prediction and truth are counted and matched; the counts are summed over the tiles; each of the three
   gets F1 = 2 matched / (predicted + true). Where the truth has no feature of a kind and the prediction has p of them,
   F1 = 0.5 / (p + 0.5); where neither has one, the kind takes no part.
3. **Surface Dice.** The share of both surfaces' area that lies within two voxels of the other surface.
4. **VOI score.** 1 / (1 + 0.3 (split + merge)), two conditional entropies in bits between the 26-connected components
   of prediction and truth, on the voxels that are foreground in either.

## What a mistake costs

Four wavy sheets, 4 voxels thick and 32 apart, in a volume of 128 x 128 x 128: a perfect prediction scores 1.000. Each
row makes one mistake. The last column makes it where the truth has holes of its own, as real labels have.

{table}

{gallery}

*Cross-sections: right (green), invented (orange), missed (blue).*

What to take from it:

- **The first hole or cavity is dear, the next are cheap.** Where the truth has no tunnel, one single hole switches a
  third of TopoScore on, at F1 = 1/3. Fill holes and cavities before anything else; one voxel is enough.
- **Specks are dearer than a lost sheet.** A hundred of them hardly touch surface Dice and VOI and ruin the components.
- **VOI does not see a lost sheet**: its voxels are one cluster in the truth and one (background) in the prediction. It
  sees a bridge, because two sheets become one, and it sees *displacement*: sheets two voxels too high are perfect for
  surface Dice and TopoScore and cost more than a bridge, because VOI compares voxels, not surfaces.
- **Between two and three voxels of displacement lies a cliff**: the tolerance of surface Dice.
- **Thickness counts, by VOI alone.** Sheets one voxel too thick on both sides have a perfect topology and a perfect
  surface, and cost more than one sheet torn in two.

The code of one of them, and of a picture's volume:

```python
{code}```

All of them: [metric_costs.py](metric_costs.py).

## Other forms

| argument | competition | otherwise |
| --- | --- | --- |
| `ignore_label` | 2 | the label of unlabelled voxels |
| `tolerance`, `spacing` | 2, (1, 1, 1) | any unit of length; areas and distances of voxels that are no cubes |
| `splits` | (2, 2, 2) | tiles along z, y, x; (1, 1, 1) does not cut |
| `voi_alpha`, `weights` | 0.3, (0.30, 0.35, 0.35) | |
| `leaderboard_by_label` | | several classes, each against all others |
| `leaderboard_without_matching_tunnels` | | upper bound in half the time: all is exact but the matched tunnels |

## What it is not

- **Not symmetric.** Turning or mirroring both volumes can change matched components and tunnels, because ties are
  broken by position along the axes; so it is with the hosts' code. Counts, surface Dice and VOI do not change.
- **Not smooth.** One voxel can cost 0.1. Compare models over several volumes, not one.
- The hosts' library has other defaults (alpha 1.0) than the competition used, and its description names a tolerance of
  1.0; scores made with those are not leaderboard scores. Its documentation explains split and merge with each other's
  meaning; here split is H(prediction | truth).

Sources: Stucki et al. 2023 and 2024 (Betti matching), Nikolov et al. 2018 (surface Dice), Meila 2007 (VOI).
"""


def configuration_page() -> str:
    """Introduction, presets, and every key of the schema."""
    presets = ", ".join(f"`preset:{name}`" for name in preset_names())
    lines = ["| key | when | type | default | range | description |", "| --- | --- | --- | --- | --- | --- |"]
    for row in schema_rows(Config):
        cells = (f"`{row.key}`", row.when, row.type, row.default or "*required*", row.range, row.description)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    table = "\n".join(lines)
    return f"{CONFIGURATION}Presets: {presets}.\n\n{table}\n\n"


def metric_page() -> str:
    """How the metric counts and what mistakes cost, computed."""
    found = metric_costs.costs()
    code = "\n\n".join(inspect.getsource(function) for function in (metric_costs.sheets, metric_costs.bridge))
    return METRIC.format(table=metric_costs.table(found), gallery=metric_costs.gallery(found), code=code)


PAGES: dict[str, Callable[[], str]] = {
    "audit-your-code.md": code_page,
    "api.md": api_page,
    "configuration.md": configuration_page,
    "metric.md": metric_page,
}


def main() -> None:
    """Write every page and picture."""
    for name, page in PAGES.items():
        write_atomically(DOCS / name, page())
        print(f"written: {DOCS / name}")
    for name in metric_costs.PICTURED:
        write_atomically(DOCS / "images" / f"metric-{name}.png", encode_png(metric_costs.picture(name)))


if __name__ == "__main__":
    main()
