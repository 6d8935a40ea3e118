"""What each step of a tuned pipeline is worth, on volumes that the search which chose it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.experiments.held_out import HeldOut
from volumen.experiments.pipeline_scores import SCORES, Scorer
from volumen.experiments.tuning import Tuned, groups_of
from volumen.metrics import beats_noise, mean_and_noise


@dataclass(frozen=True)
class Ablation:
    """What a step is worth on cases that the search which chose it never saw."""

    step: str
    searches: int
    """Nested searches whose pipeline has the step."""
    gain: float
    """Mean score with the step less without it, over the cases of those searches."""
    noise: float
    """Standard error of the gain over the cases; NaN for one case."""
    volumes: int
    """Cases of those searches."""

    @property
    def harmful(self) -> bool:
        """The step lowers the score."""
        return self.gain < 0

    @property
    def within_noise(self) -> bool:
        """Nothing can be said of the step."""
        return not beats_noise(abs(self.gain), self.noise, self.volumes)


def ablation(tuned: Tuned, cases: Sequence[HeldOut], folder: Path) -> tuple[Ablation, ...]:
    """Leave out every step of the nested pipelines in turn; a decision is replaced by the raw threshold of 0.5."""
    scorer, groups = Scorer(cases, folder / SCORES), groups_of(cases)
    gains: dict[str, list[float]] = {}
    searches: dict[str, int] = {}
    for search in tuned.nested:
        for number, step in enumerate(search.pipeline.steps):
            without = leave_out(search.pipeline, number)
            searches[step.kind] = searches.get(step.kind, 0) + 1
            gains.setdefault(step.kind, []).extend(
                scorer.score(search.pipeline, case_id) - scorer.score(without, case_id)
                for case_id in groups[search.left_out]
            )
    return tuple(Ablation(kind, searches[kind], *mean_and_noise(values), len(values)) for kind, values in gains.items())


def leave_out(settings: Postprocessing, number: int) -> Postprocessing:
    """The pipeline without one of its steps."""
    steps = list(settings.steps)
    kept = [Threshold()] if steps[number].kind in ("threshold", "hysteresis") else []
    return Postprocessing(steps=(*steps[:number], *kept, *steps[number + 1 :]))
