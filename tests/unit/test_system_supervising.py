"""The dead are started again, failures stay alone, slots are never shared, nobody is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import volumen
from volumen.errors import UserError
from volumen.system import supervising
from volumen.system.attempts import Attempt, last_words
from volumen.system.supervising import Situation, Slot, Step, Supervisor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by signals on POSIX only")

WORKLOAD = """
import os, signal, sys, time
from pathlib import Path
folder, name, *plan = sys.argv[1:]
started = Path(folder, name + ".started")
number = len(started.read_text().split()) if started.exists() else 0
with started.open("a") as file:
    file.write(f"{os.getpid()} ")
what = plan[min(number, len(plan) - 1)]
print("slot", os.environ.get("PLACE"), flush=True)
place = Path(folder, "place-" + os.environ.get("PLACE", "none"))
place.touch(exist_ok=False)
time.sleep(0.1)
place.unlink()
if what == "wait":
    def leave(number, frame):
        Path(folder, name + ".saved").touch()
        sys.exit(75)
    signal.signal(signal.SIGTERM, leave)
    Path(folder, name + ".ready").touch()
    while True:
        time.sleep(0.05)
if what == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = os.fork()
    Path(folder, f"{name}-{os.getpid()}.deaf").touch()
    while True:
        time.sleep(0.05)
if what.startswith("-"):
    os.kill(os.getpid(), -int(what))
if what == "1":
    print("failed: a reason\\nand more of it", file=sys.stderr)
if what == "0":
    Path(folder, name + ".done").touch()
sys.exit(int(what))
"""


@dataclass
class Work:
    """A job whose processes end as planned: exit codes, negative for deaths, the last one again and again."""

    folder: Path
    name: str
    plan: Sequence[str]
    lasts: str = ""
    refusal: str = ""

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def next(self) -> Step | None:
        if self.refusal:
            raise UserError(self.refusal)
        if (self.folder / f"{self.name}.done").exists():
            return None
        return Step("work", ("workload", str(self.folder), self.name, *self.plan))

    def lasting(self, attempt: Attempt) -> str:
        return self.lasts

    @property
    def starts(self) -> int:
        path = self.folder / f"{self.name}.started"
        return len(path.read_text().split()) if path.exists() else 0


@dataclass
class Seen:
    """A watcher that remembers."""

    attempts: list[Attempt] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def began(self, attempt: Attempt) -> None:
        assert attempt.ending is None

    def ended(self, attempt: Attempt, said: str) -> None:
        self.attempts.append(attempt)
        self.said.append(said)

    def looked(self, situations: Mapping[str, Situation]) -> None:
        pass


@pytest.fixture(autouse=True)
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workload.py").write_text(WORKLOAD)
    source = Path(volumen.__file__).resolve().parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(source), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(supervising, "POLL_SECONDS", 0.02)


def run(jobs: Sequence[Work], slots: int = 2, restarts: int = 2) -> tuple[dict[str, Situation], Seen]:
    seen = Seen()
    places = [Slot(f"place {number}", {"PLACE": str(number)}) for number in range(slots)]
    return Supervisor(jobs, places, seen, restarts=restarts, back_off_seconds=0.01).run(), seen


@given(st.one_of(st.none(), st.integers(-64, 255)))
def test_every_exit_code_has_one_ending_and_a_sentence(code: int | None) -> None:
    attempt = Attempt("job", "work", 0.0, code=code)
    expected = {None: None, 0: "done", 75: "stopped", 1: "failed", 2: "refused"}.get(code, "died")
    assert attempt.ending == expected
    assert attempt.why
    if code == -signal.SIGKILL:
        assert "SIGKILL" in attempt.why


def test_one_jobs_fate_is_nothing_to_the_others_and_no_slot_is_shared(tmp_path: Path) -> None:
    jobs = [
        Work(tmp_path, "well", ["0"]),
        Work(tmp_path, "dies", ["-9", "0"]),
        Work(tmp_path, "mistake", ["2"]),
        Work(tmp_path, "refuses", ["0"], refusal="it cannot be done"),
        Work(tmp_path, "crashes", ["1", "1", "0"]),
        Work(tmp_path, "sick", ["1"], lasts="sick for good"),
        Work(tmp_path, "hopeless", ["-11"]),
    ]
    found, seen = run(jobs)  # a shared slot would fail at the file that stands for it
    states = {name: one.state for name, one in found.items()}
    assert states == {
        "well": "done", "dies": "done", "mistake": "failed", "refuses": "failed", "crashes": "done",
        "sick": "failed", "hopeless": "failed",
    }  # fmt: skip
    starts = {job.name: job.starts for job in jobs}
    assert starts == {"well": 1, "dies": 2, "mistake": 1, "refuses": 0, "crashes": 3, "sick": 1, "hopeless": 3}
    assert found["dies"].restarts == 1
    assert found["refuses"].why == "it cannot be done"
    assert found["sick"].why == "sick for good"
    assert all(words in found["hopeless"].why for words in ("SIGSEGV", "after 2 restarts"))
    assert len(seen.attempts) == sum(starts.values())
    assert all(one.seconds is not None and one.seconds > 0 for one in seen.attempts)
    crash = next(one for one in seen.attempts if one.job == "crashes" and one.code == 1)
    assert crash.said == "a reason and more of it"


@pytest.mark.parametrize("restarts", [0, 1])
def test_what_dies_always_is_started_once_more_than_it_may_be_restarted(tmp_path: Path, restarts: int) -> None:
    job = Work(tmp_path, "dies", ["-9"])
    found, _ = run([job], restarts=restarts)
    assert (job.starts, found["dies"].restarts, found["dies"].state) == (restarts + 1, restarts, "failed")


def test_a_job_that_ends_well_and_leaves_its_work_undone_is_no_endless_loop(tmp_path: Path) -> None:
    class Undone(Work):
        def next(self) -> Step | None:
            return Step("work", ("workload", str(self.folder), self.name, "0"))

    job = Undone(tmp_path, "undone", [])
    found, _ = run([job])
    assert (job.starts, found["undone"].state) == (1, "failed")


def test_a_request_to_stop_lets_everybody_save_and_starts_nobody(tmp_path: Path) -> None:
    jobs = [Work(tmp_path, name, ["wait"]) for name in ("one", "two", "three")]

    def ask() -> None:
        while not all((tmp_path / f"{name}.ready").exists() for name in ("one", "two")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask)
    asking.start()
    supervisor = Supervisor(jobs, [Slot(str(n), {"PLACE": str(n)}) for n in range(2)], Seen())
    found = supervisor.run()
    asking.join()
    assert supervisor.stopped_by == "SIGINT"
    assert {name: one.state for name, one in found.items()} == {"one": "stopped", "two": "stopped", "three": "waiting"}
    assert all((tmp_path / f"{name}.saved").exists() for name in ("one", "two"))
    assert jobs[2].starts == 0


def test_a_second_interrupt_ends_even_the_deaf_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "AT_ONCE_SECONDS", 0.3)
    jobs = [Work(tmp_path, "saves", ["wait"]), Work(tmp_path, "deaf", ["deaf"])]

    def ask() -> None:
        while not ((tmp_path / "saves.ready").exists() and len(list(tmp_path.glob("deaf-*.deaf"))) == 2):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
        while not (tmp_path / "saves.saved").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(KeyboardInterrupt):
        Supervisor(jobs, [Slot(str(n), {"PLACE": str(n)}) for n in range(2)], Seen()).run()
    asking.join()
    pids = [int(path.stem.partition("-")[2]) for path in tmp_path.glob("deaf-*.deaf")]
    until = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_a_killed_supervisor_leaves_nobody_behind_not_even_the_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "charge.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_system_supervising import Seen, Slot, Supervisor, Work\n"
        "folder = Path(sys.argv[1])\n"
        "jobs = [Work(folder, 'saves', ['wait']), Work(folder, 'deaf', ['deaf'])]\n"
        "Supervisor(jobs, [Slot('a', {'PLACE': 'a'}), Slot('b', {'PLACE': 'b'})], Seen()).run()\n"
    )
    charge = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    while not ((tmp_path / "saves.ready").exists() and len(list(tmp_path.glob("deaf-*.deaf"))) == 2):
        assert charge.poll() is None
        time.sleep(0.05)
    children = [int(path.stem.partition("-")[2]) for path in tmp_path.glob("deaf-*.deaf")]
    children += [int((tmp_path / "saves.started").read_text())]
    assert all(alive(pid) for pid in children)
    charge.kill()
    charge.wait()
    ends = time.monotonic() + 30  # 8 s are what a process may take to save
    while any(alive(pid) for pid in children) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in children)
    assert (tmp_path / "saves.saved").exists()


@given(
    st.lists(
        st.text(
            alphabet=st.characters(codec="utf-8", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
            max_size=40,
        ),
        max_size=8,
    )
)
def test_last_words_are_one_printable_line_of_any_output(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    log = tmp_path_factory.mktemp("log") / "log"
    log.write_text("\n".join([*lines, "error: told so: do this"]), encoding="utf-8")
    assert last_words(log, 0) == "told so: do this"
    assert last_words(log, 10**6) == "" == last_words(log.with_name("none"), 0)
    log.write_text("\n".join(lines), encoding="utf-8")
    said = last_words(log, 0)
    assert said == said.strip()
    assert said.isprintable()
