"""A supervisor of long work in processes of its own, each in a group of its own and with a log.

What dies is started again, a few times; what would fail again is not. What one process does is nothing to the others.
They end with the supervisor however it ends (`system.supervised`). A job decides what it does next each time that it is
asked, from what lies in its folder: a start, going on after a death, and a second step are the same question.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from volumen.errors import UserError
from volumen.system.attempts import Attempt, last_words
from volumen.system.output import counted
from volumen.system.stopping import StopRequest

POLL_SECONDS = 0.2
BACK_OFF_SECONDS = 2.0
"""Before the first restart; doubled with each."""
LONGEST_BACK_OFF_SECONDS = 60.0
AT_ONCE_SECONDS = 10.0
"""From a second Ctrl-C until what still runs is killed."""

State = Literal["waiting", "running", "again", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Step:
    """What a job does next."""

    name: str
    """Such as `train`."""
    words: tuple[str, ...]
    """A module and its arguments, as they would follow `python -m`."""


class Job(Protocol):
    """Work that may take several processes, one after the other."""

    @property
    def name(self) -> str:
        """Unlike that of every other job."""

    @property
    def log(self) -> Path:
        """File that its processes' output is added to."""

    def next(self) -> Step | None:
        """What to do now; None where nothing is left.

        Raises:
            UserError: There is something left, and it cannot be done; says why.
        """

    def lasting(self, attempt: Attempt) -> str:
        """Why a process that ended as `failed` would fail again; empty where it need not."""


@dataclass(frozen=True)
class Slot:
    """A place for one process at a time."""

    name: str = ""
    environment: Mapping[str, str] | None = None
    """What a process finds there besides the environment of the supervisor."""


@dataclass(frozen=True)
class Situation:
    """How a job stands."""

    state: State = "waiting"
    step: str = ""
    slot: str = ""
    restarts: int = 0
    why: str = ""
    """Of the last ending that was no success."""


class Watcher(Protocol):
    """Told what happens."""

    def began(self, attempt: Attempt) -> None:
        """A process was started."""

    def ended(self, attempt: Attempt, said: str) -> None:
        """A process ended, and what follows, in a sentence; empty where all is well."""

    def looked(self, situations: Mapping[str, Situation]) -> None:
        """Some tenths of a second have gone by."""


@dataclass
class _Process:
    job: Job
    attempt: Attempt
    process: "subprocess.Popen[bytes]"
    slot: Slot
    words: tuple[str, ...]
    log_from: int
    began: float


class Supervisor:
    """Runs jobs until each is done, stopped or given up; `run` is called once.

    Args:
        jobs: In the order in which they begin.
        slots: As many processes run at a time; each has one to itself.
        watcher: Told what happens.
        restarts: How often a job is started again after a death or a failure that need not last.
        back_off_seconds: Before the first restart.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        slots: Sequence[Slot],
        watcher: Watcher,
        *,
        restarts: int = 2,
        back_off_seconds: float = BACK_OFF_SECONDS,
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._free = list(slots)
        self._watcher, self._restarts, self._back_off = watcher, restarts, back_off_seconds
        self._due = dict.fromkeys(self._jobs, 0.0)
        self._words: dict[str, tuple[str, ...]] = {}
        self._running: dict[str, _Process] = {}
        self._asked = False
        self.situations = dict.fromkeys(self._jobs, Situation())
        self.stopped_by = ""
        """The signal that asked to stop."""

    def run(self) -> dict[str, Situation]:
        """Do the work. A signal lets every process save; a second Ctrl-C ends them at once, with KeyboardInterrupt."""
        with StopRequest() as stop:
            try:
                while self._running or (self._due and not self._asked):
                    if stop.requested and not self._asked:
                        self.stopped_by = stop.name
                        self.ask_to_stop()
                    for name in list(self._running):
                        self._look_after(name)
                    if not self._asked:
                        self._begin_due()
                    self._watcher.looked(self.situations)
                    time.sleep(POLL_SECONDS)
            except BaseException:
                self.end_at_once()
                raise
        return self.situations

    def ask_to_stop(self) -> None:
        """Let every process save and end, and start none any more."""
        self._asked = True
        for one in self._running.values():
            _send(one.process, signal.SIGTERM)

    def stop_now(self, seconds: float) -> None:
        """Let every process save, wait for that, and end by force what has not ended by then."""
        self.ask_to_stop()
        self._wait(seconds)

    def end_at_once(self) -> None:
        """End every process, by force after some seconds."""
        self.ask_to_stop()
        for one in self._running.values():
            _send(one.process, signal.SIGINT)  # the second request
        self._wait(AT_ONCE_SECONDS)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for one in self._running.values():
            try:
                one.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill_group(one.process)
                one.process.wait()
            _let_go(one.process)

    def _begin_due(self) -> None:
        for name, moment in list(self._due.items()):
            if not self._free:
                return
            if moment > time.monotonic():
                continue
            del self._due[name]
            try:
                step = self._jobs[name].next()
            except UserError as error:
                self._set(name, state="failed", why=str(error))
                continue
            if step is None:
                self._set(name, state="done")
            elif self._words.get(name) == step.words and self.situations[name].state != "again":
                self._set(
                    name, state="failed", why=f"{step.name} ended well and left its work undone: look into its log"
                )
            else:
                self._begin(name, step)

    def _set(self, name: str, state: State, *, step: str = "", slot: str = "", why: str = "", more: int = 0) -> None:
        restarts = self.situations[name].restarts + more
        self.situations[name] = Situation(state, step, slot, restarts, why)

    def _begin(self, name: str, step: Step) -> None:
        job, slot = self._jobs[name], self._free.pop(0)
        attempt = Attempt(name, step.name, time.time(), slot.name)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with job.log.open("ab") as log:
                log.write(f"--- {step.name}: {' '.join(step.words)}\n".encode())
                log.flush()
                log_from = log.tell()
                process = subprocess.Popen(
                    [sys.executable, "-m", "volumen.system.supervised", *step.words],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **(slot.environment or {})},
                    start_new_session=True,
                )
        except BaseException:
            self._free.insert(0, slot)
            raise
        attempt = replace(attempt, pid=process.pid)
        self._running[name] = _Process(job, attempt, process, slot, step.words, log_from, time.monotonic())
        self._set(name, "running", step=step.name, slot=slot.name, why=self.situations[name].why)
        self._watcher.began(attempt)

    def _look_after(self, name: str) -> None:
        """Take note of a process that has ended, and decide what follows."""
        one = self._running[name]
        code = one.process.poll()
        if code is None:
            return
        del self._running[name]
        self._free.append(one.slot)
        _let_go(one.process)
        said = last_words(one.job.log, one.log_from)
        ended = replace(one.attempt, seconds=time.monotonic() - one.began, code=code, said=said)
        self._words[name] = one.words
        self._watcher.ended(ended, self._what_follows(name, one, ended))

    def _what_follows(self, name: str, one: _Process, ended: Attempt) -> str:
        """Say what a job does after a process of it ended; empty where all is well."""
        if ended.ending == "done":
            self._due = {name: 0.0, **self._due}  # its next step comes before another job's first
            self._set(name, "waiting")
            return ""
        if ended.ending == "stopped" or (self._asked and ended.code == -signal.SIGTERM):  # before it could listen
            self._set(name, "stopped", why="" if self._asked else "asked to stop from outside")
            return "" if self._asked else f"{name} was asked from outside to stop: it goes on with the next start"
        restarts = self.situations[name].restarts
        lasting = one.job.lasting(ended) if ended.ending == "failed" else ""
        again = ended.ending == "died" or (ended.ending == "failed" and not lasting)
        if again and restarts < self._restarts and not self._asked:
            wait = min(self._back_off * 2**restarts, LONGEST_BACK_OFF_SECONDS)
            self._due = {name: time.monotonic() + wait, **self._due}
            self._set(name, "again", why=ended.why, more=1)
            return f"{name} {ended.why}: started again in {wait:.0f} s (restart {restarts + 1} of {self._restarts})"
        given_up = f", after {counted(restarts, 'restart')}" if again and restarts else ""
        self._set(name, "failed", why=(lasting or ended.why) + given_up)
        return f"{name} {ended.step} failed{given_up}: {lasting or ended.why}"


def _send(process: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(OSError):
        process.send_signal(number)  # to the process alone: it ends those that work for it


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    """Close the pipe by which it saw that its supervisor is alive."""
    if process.stdin is not None:
        process.stdin.close()


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
