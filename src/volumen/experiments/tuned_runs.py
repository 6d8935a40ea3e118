"""Tune runs as a command does: predict, search, leave steps out, and write down what was found."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen.config.dump import canonical, config_values, dump_yaml
from volumen.config.postprocessing import Postprocessing
from volumen.config.schema import Config
from volumen.data.labels import IGNORE
from volumen.errors import DamagedError, UserError
from volumen.experiments.distribution import judge_share
from volumen.experiments.held_out import HeldOut
from volumen.experiments.out_of_fold import RunWeights, check_sources, predict_out_of_fold
from volumen.experiments.scoring import label_shares
from volumen.experiments.tuning import OWN, SEARCHES, Ablation, Tuned, ablation, check_search, origin_of, tune
from volumen.files import strict_json, write_atomically
from volumen.metrics.ratios import ratio
from volumen.postprocess import apply_pipeline
from volumen.runs.run import override_prediction
from volumen.system.locks import hold
from volumen.system.output import Progress, Warn, counted, unheard
from volumen.system.places import writable_folder
from volumen.system.records import read_log, read_record, write_record

RESULT, PIPELINE, ORIGIN = "tuning.json", "postprocessing.yaml", "origin.json"


@dataclass(frozen=True)
class TuningReport:
    """What was found, on which volumes."""

    tuned: Tuned
    steps: tuple[Ablation, ...]
    cases: tuple[HeldOut, ...]

    def gain(self, method: str, scroll: str | None = None) -> tuple[float, float, float]:
        """Mean score of a method on volumes its search never saw, gain over what there was, and the gain's noise."""
        chosen = [case.id for case in self.cases if scroll in (None, case.scroll_id)]
        scores = self.tuned.scores[method]
        return sum(scores[case_id] for case_id in chosen) / len(chosen), *self.tuned.gain(method, chosen)

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values."""
        return strict_json(self.record)

    @property
    def record(self) -> dict[str, Any]:
        """Plain values, NaN among them, for `tuning.json`."""
        searches = [self.tuned.final, *self.tuned.nested]
        return {
            "advised": self.tuned.advised,
            "to_use": self.tuned.to_use.model_dump(mode="json"),
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


def next_command(
    report: TuningReport | None, runs: Sequence[Path], which: str, overrides: Sequence[str], pipeline: Path
) -> str:
    """What to run after `tune`; the tuned file is named only where it is to be used."""
    words = ["volumen", "ensemble", *(str(run) if which == "best" else f"{run}:{which}" for run in runs)]
    words += [word for override in overrides for word in ("-o", override)] + ["--out", "model.volumen"]
    keep = report is None or report.tuned.advised == OWN
    return shlex.join(words + ([] if keep else ["--postprocessing", str(pipeline)]))


def tune_runs(
    runs: Sequence[Path],
    out: Path,
    *,
    which: str = "best",
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    trials: int = 60,
    workers: int = 1,
    seed: int = 0,
    predicting: Progress = unheard,
    searching: Progress = unheard,
    warn: Warn = unheard,
) -> TuningReport | None:
    """Predict what runs held out, search as `tune` does, and write `postprocessing.yaml` and `tuning.json`.

    Args:
        runs: Run folders of one data set.
        out: The folder; what was begun there goes on.
        which, dataset, overrides: As in `predict_out_of_fold`.
        trials, workers, seed, searching, warn: As in `tune`.
        predicting: Told what is predicted.

    Returns:
        What was found; None for one held-out volume, where no search could be tested: the run's own steps are written.

    Raises:
        UserError: As in both, a folder that is in use or cannot be written to, or that was begun otherwise.
        OSError: A full disk; the same call goes on where it stopped.
    """
    check_search(trials)
    sources = [RunWeights(run, which) for run in runs]
    writable_folder(out, "choose another --out, or make it writable")
    known = check_sources(sources, dataset)
    configs = {name: one.trained.config for name, one in known.items()}
    volumes = {name for one in known.values() for name in one.trained.data.validation}
    with hold(out, "tune"):
        own = _own_of(sources, configs, overrides, warn)
        if len(volumes) < 2:
            _write_pipeline(out, own, "The run's own, for one volume tells nothing")
            return None
        cases = predict_out_of_fold(known, out / "predictions", overrides=overrides, progress=predicting, warn=warn)
        known.clear()  # the networks are not needed any more
        _same_origin(out, origin_of(cases, seed), warn)
        tuned = tune(cases, out, own=own, trials=trials, workers=workers, seed=seed, tell=searching, warn=warn)
        report = TuningReport(tuned, ablation(tuned, cases, out), cases)
        what = "The run's own, which nothing beat" if tuned.advised == OWN else "Tuned"
        what += f" on {counted(len(cases), 'held-out volume')}; the scores on unseen ones stand in {RESULT}"
        _write_pipeline(out, tuned.to_use, what)
        write_record(out / RESULT, report.record)
        _judge_share(report, warn)
    return report


def _write_pipeline(out: Path, pipeline: Postprocessing, what: str) -> None:
    write_atomically(out / PIPELINE, f"# {what}.\n" + dump_yaml({"postprocessing": config_values(pipeline)}))


def _judge_share(report: TuningReport, warn: Warn) -> None:
    """Say where the score speaks for masks with a share of surface that no label has."""
    shares = {}
    for case in report.cases:
        labelled = case.label != IGNORE
        mask = apply_pipeline(case.probabilities, report.tuned.to_use, scan=case.scan)
        shares[case.id] = ratio(int(mask[labelled].sum()), int(labelled.sum()))
    mean, *_ = judge_share(shares, label_shares(report.cases[0].dataset))
    if mean.value is not None and not mean.reached:
        warn(
            f"the masks of what is used are {100 * mean.value:.0f} % surface, expected {mean.target}: whatever the "
            "score says, these networks have not learned what a surface is; train on before anything is submitted"
        )


def _own_of(
    sources: Sequence[RunWeights], configs: Mapping[str, Config], overrides: Sequence[str], warn: Warn
) -> Postprocessing:
    """The post-processing that a tuned one has to beat: what the first run would be used with."""
    first, *others = [override_prediction(configs[one.name], overrides, f"of {one.run}") for one in sources]
    if any(one.postprocessing != first.postprocessing for one in others):
        warn(f"the runs differ in their post-processing: that of {sources[0].name} is what has to be beaten")
    return first.postprocessing


def _same_origin(out: Path, origin: Mapping[str, Any], warn: Warn) -> None:
    """Refuse to go on with searches that looked at other predictions, or went another way."""
    file = out / ORIGIN
    try:
        before = read_record(file, dict[str, Any], "it is written anew") if file.exists() else None
    except DamagedError as error:
        warn(str(error))
        before = None
    logs = sorted((out / SEARCHES).glob("*.jsonl"))
    if before is None and logs and not any(read_log(log, owner=canonical(origin)).records for log in logs):
        raise UserError(
            f"{out} holds searches, and no {ORIGIN} tells what they looked at (not these predictions and this seed): "
            "choose another --out"
        )
    if before is not None and before != origin:
        if before.get("predictions") != origin["predictions"]:
            raise UserError(
                f"{out} holds a search over other predictions (other runs, weights, settings, or another machine's): "
                "choose another --out"
            )
        differing = [name for name in sorted(origin) if before.get(name) != origin[name]]
        said = ", ".join(f"{name} {canonical(before.get(name))}, now {canonical(origin[name])}" for name in differing)
        raise UserError(f"{out} holds a search that was begun otherwise ({said}): choose another --out")
    write_record(file, origin)
