"""What people ask a running training to do: one numbered record a request in the run's folder, answered in order.

A request is written under a name that no other one has, in one move. Reading the next one costs the training a look
for one file. The answer is an event with the request's number; the requests stay, so that a training that is killed
before it has saved comes to them again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from volumen.config.dump import config_values
from volumen.config.intervention import Intervention
from volumen.errors import UserError
from volumen.files import is_regular_file
from volumen.runs.folder import EVENTS, REQUESTS, WORK, run_owner
from volumen.system.locks import HeldError, hold, is_held
from volumen.system.records import read_log_from, read_record, write_record

MOST = 1000
"""Requests of a run."""
_TRIES = 50
_FIX = "it is passed over: ask again"


@dataclass(frozen=True)
class Request:
    """What somebody asked for."""

    number: int
    """From 1, in the order in which they came."""
    intervention: Intervention
    now: bool
    """Without a trial against a control."""


@dataclass(frozen=True)
class _Written:
    number: int
    intervention: dict[str, object]
    now: bool
    time: float


def ask(run: Path, intervention: Intervention, *, now: bool) -> Request:
    """Write a request for the training that goes on in a folder.

    Args:
        run: Run folder.
        intervention: What shall be done.
        now: Without a trial.

    Raises:
        UserError: No run there, nobody trains it, or a thousand requests lie there.
    """
    owner = run_owner(run)
    if not is_held(run, WORK):
        raise UserError(f"{run} is not being trained now: go on with it by `volumen train {run} --resume` first")
    folder = run / REQUESTS
    for _ in range(_TRIES):
        try:
            with hold(folder, "intervene"):
                number = 1
                while _path(run, number).exists():
                    number += 1
                if number > MOST:
                    raise UserError(f"{folder} holds {MOST} requests, as many as a run takes: change its configuration")
                values = {"kind": intervention.kind, **config_values(intervention)}
                record = {"number": number, "intervention": values, "now": now, "time": time.time()}
                write_record(_path(run, number), record, owner=owner)
                return Request(number, intervention, now)
        except HeldError:
            time.sleep(0.1)
    raise UserError(f"another command writes to {folder} and does not end: stop it, then ask again")


def next_request(run: Path, owner: str, done: int) -> Request | None:
    """The request after `done` answered ones; None where there is none.

    Raises:
        DamagedError: It is not what was written, or of another run.
    """
    path = _path(run, done + 1)
    if not is_regular_file(path):
        return None
    written: _Written = read_record(path, _Written, _FIX, owner=owner)
    try:
        asked: Intervention = TypeAdapter(Intervention).validate_python(written.intervention, strict=False)
    except ValidationError as error:
        raise UserError(f"{path} asks for what is no intervention ({error.error_count()} faults): {_FIX}") from error
    return Request(done + 1, asked, written.now)


def _path(run: Path, number: int) -> Path:
    return run / REQUESTS / f"request-{number:06d}.json"


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    text: str
    """A sentence."""
    refused: bool = False


def wait_for_answer(run: Path, number: int, *, every_seconds: float = 0.5) -> Answer:
    """Wait until a training has answered a request.

    Raises:
        UserError: The training ended before it came to it.
    """
    owner, offset = run_owner(run), 0
    while True:
        alive = is_held(run, WORK)  # before its last words are read
        events: list[dict[str, Any]] = []
        if (run / EVENTS).exists():
            events, _, offset = read_log_from(run / EVENTS, offset, owner=owner)
        for event in events:
            if event.get("request") == number and event.get("kind") in _ANSWERS:
                return _ANSWERS[event["kind"]](event)
        if not alive:
            raise UserError(
                f"the training of {run} ended before it came to request {number}: it is answered when the training is "
                f"gone on with (`volumen train {run} --resume`)"
            )
        time.sleep(every_seconds)


def _tried(event: Mapping[str, Any]) -> Answer:
    gain, sigma = event.get("gain"), event.get("sigma")
    known = isinstance(gain, int | float) and isinstance(sigma, int | float)
    numbers = f"{gain:+.4f} over the control, noise {sigma:.4f}" if known else "one of the two has no value"
    kept = event.get("winner") != "control"
    return Answer(f"{'kept' if kept else 'not kept, the run is as it was'}: {numbers}")


_ANSWERS: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
    "tournament": _tried,
    "intervention": lambda event: Answer(f"done before step {int(event['step']) + 1}"),
    "refused": lambda event: Answer(str(event.get("reason")), refused=True),
}
