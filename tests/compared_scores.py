"""Score tables drawn at random, and comparisons made of them."""

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from volumen.config.load import load_config
from volumen.experiments.comparing import compare_scores
from volumen.experiments.comparing_results import Comparison
from volumen.experiments.comparing_runs import Told, rows_of
from volumen.experiments.comparing_scores import NetworkScores
from volumen.experiments.matched_share import Matched
from volumen.metrics.table import METRICS

Table = dict[str, list[dict[str, float]]]


def drawn(
    random: np.random.Generator,
    *,
    rows: int,
    cases: int,
    seeds: int,
    case_spread: float = 0.02,
    seed_spread: float = 0.0,
    shift: float = 0.0,
    heavy: bool = False,
) -> tuple[Table, list[str]]:
    """Rows `r0`, `r1`, ... that differ by chance only, but for the first, which is shifted; and the cases."""
    names = [f"c{number}" for number in range(cases)]
    hard, table = random.normal(0.6, 0.1, cases), Table()
    for row in range(rows):
        own = random.standard_t(3, cases) / 3**0.5 if heavy else random.normal(size=cases)
        table[f"r{row}"] = [
            dict(zip(names, (hard + case_spread * own + random.normal(0, seed_spread) + shift * (row == 0)
                             + random.normal(0, case_spread, cases)).tolist(), strict=True))
            for _ in range(seeds)
        ]  # fmt: skip
    return table, names


def told(name: str, *overrides: str, **changes: Any) -> Told:
    """A run that has ended."""
    config = load_config("preset:default", ["data.dataset=somewhere", *overrides]).config
    facts = {"state": "finished", "epochs": 5, "planned_epochs": 5, "steps": 50, "seconds": 12.5, "epoch_seconds": 2.5,
             "memory_gb": 1.5, "machine": "a machine"}  # fmt: skip
    return Told(Path(name), name, config, **(facts | changes))


def scores_of(values: dict[str, float], *, matched: float = 0.0, share: float = 0.2) -> NetworkScores:
    """A network with this leaderboard score by case, more by `matched` at the matched share."""

    def metrics(value: float, predicted: float) -> dict[str, float]:
        every = dict.fromkeys(METRICS, min(max(value, 0.0), 1.0))
        return every | {"leaderboard": value, "predicted_share": predicted, "true_share": 0.1, "all_surface_dice": 0.18}

    return NetworkScores(
        weights=secrets.token_hex(32),
        own={case: metrics(value, share) for case, value in values.items()},
        at_matched={case: metrics(value + matched, 0.1) for case, value in values.items()},
        point=Matched(0.4, 0.1, 0.1, 0.5),
        terms={case: {"soft_dice": 1 - value} for case, value in values.items()},
        totals={case: 1 - value for case, value in values.items()},
        parameters=1234,
        predict_seconds=0.5,
        machine="a machine",
    )


def comparison(table: Table, *, gains: dict[str, float] | None = None, prefix: str = "") -> Comparison:
    """A comparison of such rows: each is a learning rate of its own, each of its runs a seed."""
    runs, scores = [], {}
    for number, (row, members) in enumerate(table.items()):
        for seed, values in enumerate(members):
            name = f"{prefix}{row}-s{seed}"
            rate = 0.001 * (1 + int(row.removeprefix("r")) if row.startswith("r") else number)
            runs.append(told(name, f"seed={seed}", f"name={row}", f"optimiser.learning_rate={rate}"))
            scores[name] = scores_of(values, matched=(gains or {}).get(row, 0.0))
    return compare_scores(runs, rows_of(runs), scores, reference="r0")
