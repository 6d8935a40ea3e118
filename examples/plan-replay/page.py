"""The page of the replay: the tree, every criterion with its verdict, the comparison, and what follows from it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CONCLUSION = Path(__file__).with_name("conclusion.md")
SHOWN = ("ranking own threshold", "ranking matched share", "terms", "metrics", "distribution", "cost")
"""Tables of the comparison."""

BEGINNING = """# The plan as a tree of experiments

*The tables are made by `examples/plan-replay/replay.py`; what follows from them stands at the end.*

The training plan of the [case study](case-study.md) is a diary: each configuration has a theory, an expectation, a
criterion and a fallback, and was followed by the next. Here it is an experiment tree. Every configuration is trained
small (a network of 8 filters, patches of 48^3, 50 epochs of 48 patches, one scroll held out) with its own weights,
rates, schedules and interventions, judged by its own criteria, and compared with all others by one protocol. Three
branches are ours: `rate` and `updates` change one thing each, `default` is what the audit lets pass.

```
python examples/plan-replay/replay.py --dataset ../shared/data/semi --page docs/plan-replay.md
```
"""


def page_of(tree: str, experiments: dict[str, Any], comparison: dict[str, Any]) -> str:
    """The whole page."""
    parts = [
        BEGINNING,
        "## The family\n\n```\n" + "\n".join(line.rstrip() for line in tree.strip().splitlines()) + "\n```\n",
        "## Criteria and verdicts\n\n"
        + _table(("experiment", "criterion", "verdict", "why"), list(_verdicts(experiments))),
        *_odds(experiments),
        "## The comparison\n",
        *_comparison(comparison),
        CONCLUSION.read_text(),
    ]
    return "\n".join(parts)


def _verdicts(experiments: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in experiments["experiments"]:
        for run in one["judged_runs"]:
            for verdict in run["verdicts"]:
                yield f"`{one['name']}`", f"`{verdict['criterion']}`", f"**{verdict['state']}**", verdict["sentence"]


def _odds(experiments: dict[str, Any]) -> Iterator[str]:
    """Outcomes that were given probabilities, and how they stand."""
    rows = []
    for one in experiments["experiments"]:
        verdicts = [run["outcomes"] for run in one["judged_runs"]][-1:]
        for place, outcome in enumerate(one["outcomes"]):
            found = verdicts[0][place] if verdicts else None
            odds = outcome["probability"]
            stands = "for people to say" if found is None else f"**{found['state']}**: {found['sentence']}"
            rows.append((f"`{one['name']}`", outcome["what"], "-" if odds is None else f"{odds:.0%}", stands))
    if rows:
        yield "### What was expected\n\n" + _table(("experiment", "outcome", "odds given", "how it stands"), rows)


def _comparison(comparison: dict[str, Any]) -> Iterator[str]:
    for ranking in comparison["rankings"]:
        yield f"**{ranking['point']}:** {ranking['verdict']}\n"
    for table in comparison["tables"]:
        if table["key"] not in SHOWN or not table["lines"]:
            continue
        headings = tuple(table["lines"][0]["cells"])
        rows = [(f"`{line['name']}`", *(cell["text"] for cell in line["cells"].values())) for line in table["lines"]]
        notes = "".join(f"\n{note}\n" for note in table["notes"])
        yield f"### {table['title']}\n\n" + _table(("", *headings), rows) + notes
    yield f"*{comparison['legend']}*\n"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
