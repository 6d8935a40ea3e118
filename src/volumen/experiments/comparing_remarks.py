"""What has to be said of a comparison beside its numbers."""

from collections.abc import Mapping
from dataclasses import replace

from volumen.config.schema import Config
from volumen.experiments.comparing_rankings import OWN, Ranking
from volumen.experiments.comparing_results import Comparison
from volumen.system.names import some
from volumen.system.output import counted


def why_unranked(found: Comparison) -> str:
    """Why its rows are in no order."""
    if not found.scored:
        return "no run has a score"
    if len(found.scored) == 1:
        several = " (--each makes a row of every run)" if len(found.scored[0].row.runs) > 1 else ""
        return f"there is one row only, {found.scored[0].label}: nothing to rank{several}"
    listed = "; ".join(f"{one.label}: {some(sorted(one.cases))}" for one in found.scored)
    return (
        f"the runs held out different volumes ({listed}), and no volume is held out by all: a difference could be the "
        "volumes'; compare runs of one fold, or all folds of each configuration"
    )


def remarks(found: Comparison) -> list[str]:
    """What a reader has to know: cases that do not count, how numbers were made, and what single runs tell."""
    said = []
    for one in found.scored:
        more = sorted(one.cases - set(found.shared))
        if more and found.shared:
            said.append(f"{one.label} held out {some(more)} as well, and not all rows did: they are in no mean")
    if found.quick:
        said.append(
            "--quick: the numbers are those of the recorded validations, by the protocol of each run's own training; "
            "there is no matched share and no reference objective"
        )
        protocols = {_validation_of(one.row.config) for one in found.scored}
        if len(protocols) > 1:
            said.append("the runs were validated in different ways (training.validation): compare without --quick")
    said += _on_seeds(found)
    said += [f"{label} {reason}" for label, reason in saying_nothing(found).items()]
    repeats = [one for one in found.entries if 0 < len(one.scores) < len(one.row.runs)]
    said += [
        f"{one.label}: {counted(len(one.scores), 'run is', 'runs are')} scored of {len(one.row.runs)}"
        for one in repeats
    ]
    return said


def _on_seeds(found: Comparison) -> list[str]:
    """What rows with a single run can tell of their configuration."""
    singles = [one.label for one in found.scored if len(one.scores) == 1]
    if not singles or len(found.scored) < 2:
        return []
    if len(singles) == len(found.scored):
        return [
            "one run each: what is said holds for these weights, and not for their configurations with another seed"
        ]
    borrowed = f"{', '.join(singles)} with one run: what another seed would change is taken from the rows with several"
    return [borrowed + ("; a pair of two such rows is told over cases alone" if len(singles) > 1 else "")]


def saying_nothing(found: Comparison) -> dict[str, str]:
    """Rows whose masks are no better than a constant, whatever their score."""
    said = {}
    for one in found.scored:
        dice, constant = found.mean(one, "dice"), found.mean(one, "all_surface_dice")
        if dice is not None and constant is not None and dice.mean <= constant.mean:
            said[one.label] = (
                f"is no better than predicting surface everywhere (Dice {dice.mean:.3f}, that {constant.mean:.3f}): "
                "its score at its own threshold says nothing"
            )
    return said


def trusted(ranking: Ranking, nothing: Mapping[str, str]) -> Ranking:
    """Without a winner where that one says nothing."""
    if ranking.point != OWN or ranking.winner not in nothing:
        return ranking
    verdict = f"no winner: {ranking.winner} has the best {ranking.metric}, but {nothing[ranking.winner]}"
    return replace(ranking, winner="", verdict=verdict)


def _validation_of(config: Config) -> str:
    return config.training.validation.model_dump_json()
