"""How often `volumen compare` names a winner that is none, and how often it finds one that is: tables drawn at random.

    ./run bench comparing [--draws 2000]

Rows share cases of different difficulty; each has an effect of its own on every case, another one of every seed, and
one of both together. Without a shift no row is better. With one seed, and no effect of seeds, it is the weights that
are alike; with several, the configurations.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.compared_scores import drawn

from volumen.experiments.comparing_intervals import all_pairs, rank_groups

SETTINGS = (
    (2, 3, 1, 0.0), (2, 10, 1, 0.0), (4, 6, 1, 0.0), (2, 5, 2, 0.02), (2, 5, 2, 0.001), (2, 30, 2, 0.03),
    (2, 30, 2, 0.005), (2, 20, 3, 0.01), (3, 8, 2, 0.02), (3, 8, 3, 0.02), (4, 20, 3, 0.005), (6, 5, 3, 0.02),
)  # fmt: skip
"""Rows, cases, seeds, spread of the seeds; the spread of a row over cases is 0.02."""
SHIFT = 0.06


def named(
    random: np.random.Generator, rows: int, cases: int, seeds: int, spread: float, shift: float, heavy: bool
) -> str:
    """The winner of one draw; empty where none is named."""
    table, names = drawn(random, rows=rows, cases=cases, seeds=seeds, seed_spread=spread, shift=shift, heavy=heavy)
    ranks = rank_groups(table, all_pairs(table, names))
    return next((row for row, place in ranks.items() if place == (1, 1)), "")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    random = np.random.default_rng(2026)
    print("| spread of cases | rows | cases | seeds | of seeds | false winner | true one found | wrong one named |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    wrong = 0
    for heavy in (False, True):
        for rows, cases, seeds, spread in SETTINGS:
            false = sum(bool(named(random, rows, cases, seeds, spread, 0.0, heavy=heavy)) for _ in range(draws))
            found = [named(random, rows, cases, seeds, spread, SHIFT, heavy=heavy) for _ in range(draws)]
            right, other = found.count("r0"), sum(one not in ("", "r0") for one in found)
            wrong += false
            kind = "Student's t, 3" if heavy else "normal"
            shares = " | ".join(f"{100 * count / draws:.1f} %" for count in (false, right, other))
            print(f"| {kind} | {rows} | {cases} | {seeds} | {spread:g} | {shares} |")
    total = draws * len(SETTINGS) * 2
    print(f"\nfalse winners over all draws: {100 * wrong / total:.2f} % of {total}")


if __name__ == "__main__":
    main()
