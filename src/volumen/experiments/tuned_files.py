"""Tune runs as a command does: predict, search, leave steps out, and write down what was found."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen.config.dump import config_values, dump_yaml
from volumen.errors import UserError
from volumen.experiments.ablation import Ablation, ablation
from volumen.experiments.out_of_fold import HeldOut, Source, identity_of, predict_out_of_fold
from volumen.experiments.tuning import Tell, Tuned, mean_and_noise, tune
from volumen.files import strict_json, write_atomically

RESULT, PIPELINE, ORIGIN = "tuning.json", "postprocessing.yaml", "origin.json"


@dataclass(frozen=True)
class TuningReport:
    """What was found, on which volumes."""

    tuned: Tuned
    steps: tuple[Ablation, ...]
    cases: tuple[HeldOut, ...]

    def gain(self, method: str, scroll: str | None = None) -> tuple[float, float, float]:
        """Mean score of a method on volumes its search never saw, gain over the raw threshold, and the gain's noise."""
        chosen = [case.id for case in self.cases if scroll in (None, case.scroll_id)]
        scores, raw = self.tuned.scores[method], self.tuned.scores["raw"]
        gain, noise = mean_and_noise([scores[case_id] - raw[case_id] for case_id in chosen])
        return sum(scores[case_id] for case_id in chosen) / len(chosen), gain, noise

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values, as in `tuning.json`."""
        searches = [self.tuned.final, *self.tuned.nested]
        return strict_json(
            {
                "searches": [
                    {
                        **asdict(one),
                        "pipeline": one.pipeline.model_dump(mode="json"),
                        "threshold": one.threshold.model_dump(mode="json"),
                    }
                    for one in searches
                ],
                "cases": {case.id: {"scroll": case.scroll_id, "group": case.group} for case in self.cases},
                "scores": {name: dict(row) for name, row in self.tuned.scores.items()},
                "steps": [{**asdict(one), "harmful": one.harmful} for one in self.steps],
            }
        )


def tune_runs(
    runs: Sequence[Path],
    out: Path,
    *,
    which: str = "best",
    overrides: Sequence[str] = (),
    trials: int = 60,
    workers: int = 1,
    seed: int = 0,
    predicting: Callable[[str, int, int], None] = lambda name, done, of: None,
    searching: Tell = lambda name, done, of: None,
) -> TuningReport:
    """Predict held-out volumes, search, and write `postprocessing.yaml` and `tuning.json` into a folder.

    Args:
        runs: Run folders of one data set.
        out: The folder; what was begun there goes on.
        which: Which weights, as in `load_for_inference`.
        overrides: Other settings of prediction.
        trials: Of each search.
        workers: Processes.
        seed: Of the searches.
        predicting: Told what is predicted.
        searching: Told which search ended.

    Raises:
        UserError: As in `predict_out_of_fold` and `tune`, or a folder that was begun with other predictions.
    """
    sources = [Source(run, which) for run in runs]
    cases = predict_out_of_fold(sources, out / "predictions", overrides=overrides, progress=predicting)
    _same_origin(out, {"predictions": identity_of(cases), "seed": seed})
    tuned = tune(cases, out, trials=trials, workers=workers, seed=seed, tell=searching)
    report = TuningReport(tuned, ablation(tuned, cases, out), cases)
    header = f"# Tuned on {len(cases)} held-out volumes; what it gains on unseen ones stands in {RESULT}.\n"
    write_atomically(out / PIPELINE, header + dump_yaml({"postprocessing": config_values(tuned.final.pipeline)}))
    write_atomically(out / RESULT, json.dumps(report.to_dict(), indent=1) + "\n")
    return report


def _same_origin(out: Path, origin: Mapping[str, Any]) -> None:
    """Refuse to go on with searches that looked at other predictions."""
    file, text = out / ORIGIN, json.dumps(origin, sort_keys=True)
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{out} holds a search over other predictions (other runs, weights or settings): choose another --out"
        )
    write_atomically(file, text)
