"""MLflow: a database in the run's folder, or what `MLFLOW_TRACKING_URI` names."""

import importlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volumen.data.pictures import encode_png
from volumen.runs.folder import MLFLOW
from volumen.trackers.tracker import Rgb, TrackedRun, Tracker

RUN_TAG = "volumen.run"
LONGEST_PARAMETER = 500
MOST_AT_ONCE = 100
"""Parameters, and metrics, of one request."""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Its own retries would go on for minutes, while records are dropped."""


class _Mlflow:
    def __init__(self, client: Any, entities: Any, run_id: str, hint: str) -> None:
        self._client, self._entities, self._id, self.hint = client, entities, run_id, hint

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [self._entities.Metric(_named(name), value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), MOST_AT_ONCE):
            self._client.log_batch(self._id, metrics=metrics[start : start + MOST_AT_ONCE])

    def image(self, step: int, name: str, picture: Rgb) -> None:
        self._keep(f"{_named(name)}-{step:08d}.png", encode_png(picture))

    def text(self, step: int, name: str, text: str) -> None:
        self._keep(f"{_named(name)}-{step:08d}.md", text.encode("utf-8", "replace"))

    def close(self) -> None:
        self._client.set_terminated(self._id)

    def _keep(self, name: str, data: bytes) -> None:
        """A file below the run's artifacts."""
        folder, _, base = name.rpartition("/")
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, base)
            path.write_bytes(data)
            self._client.log_artifact(self._id, str(path), folder or None)


def open_mlflow(run: TrackedRun) -> Tracker:
    """The run in its experiment, or, resumed, the run that it was."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    entities: Any = importlib.import_module("mlflow.entities")
    tracking: Any = importlib.import_module("mlflow.tracking")
    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):  # only now: the import sets them
        logging.getLogger(name).setLevel(logging.WARNING)
    place = (run.folder / MLFLOW).resolve()
    own = f"sqlite:///{place / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or own
    is_own = uri == own
    if is_own:
        place.mkdir(exist_ok=True)
    client = tracking.MlflowClient(tracking_uri=uri)
    title = os.environ.get("MLFLOW_EXPERIMENT_NAME", run.project)
    experiment = _experiment(client, title, (place / "artifacts").as_uri() if is_own else None)
    known = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run.owner}'", max_results=1)
    if known:
        run_id = known[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        run_id = client.create_run(experiment, run_name=run.name, tags={RUN_TAG: run.owner}).info.run_id
        parameters = [entities.Param(_named(k), str(v)[:LONGEST_PARAMETER]) for k, v in run.flat_settings().items()]
        for start in range(0, len(parameters), MOST_AT_ONCE):
            client.log_batch(run_id, params=parameters[start : start + MOST_AT_ONCE])
    return _Mlflow(client, entities, run_id, f"see it with: mlflow ui --backend-store-uri {own}" if is_own else "")


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    """The id of an experiment, which another run may be making at this moment."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except Exception:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _named(name: str) -> str:
    """A name of the letters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]
