"""What `volumen audit liveness` prints: every setting, where it was set, and what it does."""

from rich.console import Console

from volumen.config.describe import value_text
from volumen.doctor.audit.inert import Examination, Trial, Verdict
from volumen.reporting.console import plain_table
from volumen.system.output import counted

STYLES = {Verdict.ignored: "bold red", Verdict.inert: "yellow", Verdict.dead: "yellow"}
LONGEST = 20  # characters of a value that are shown


def print_liveness(examination: Examination, console: Console) -> None:
    """Print a row for each setting, and how many values stand at their defaults."""
    for stage, message in examination.failures.items():
        console.print(f"the rehearsal of the run fails ({stage}): {message}", style="bold red")
    if examination.failures:
        return
    table = plain_table("Settings of the configuration", ("key", "value", "read", "what", "set in"))
    for trial in examination.trials:
        if trial.verdict == Verdict.excluded:
            continue
        table.add_row(
            trial.key,
            _short(value_text(trial.value)),
            "yes" if trial.read else "no",
            _effect(trial),
            trial.origin,
            style=STYLES.get(trial.verdict),
        )
    console.print(table)
    for reason, keys in _excluded(examination).items():
        console.print(f"not varied, {reason}: {', '.join(keys)}", style="dim", soft_wrap=True)
    counts = {verdict: sum(trial.verdict == verdict for trial in examination.trials) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(
        f"{told}; {examination.defaults} values stand at their defaults; "
        f"{counted(len(examination.parts), 'part')} compared",
        soft_wrap=True,
    )


def _excluded(examination: Examination) -> dict[str, list[str]]:
    """Keys that were not varied, by reason; those of `experiment`, which may be many, as one."""
    found: dict[str, list[str]] = {}
    for trial in examination.trials:
        if trial.verdict == Verdict.excluded:
            key = "experiment" if trial.key.startswith("experiment.") else trial.key
            found.setdefault(trial.reason, []).append(key)
    return {reason: list(dict.fromkeys(keys)) for reason, keys in found.items()}


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _effect(trial: Trial) -> str:
    if trial.verdict == Verdict.live:
        return f"changes {', '.join(trial.changes)}"
    if trial.verdict == Verdict.dead:
        return f"never acts: {trial.reason}"
    if trial.verdict == Verdict.ignored:
        return f"IGNORED; with the package's own parts it changes {', '.join(trial.changes)}"
    return "changes nothing" + ("; the default, written out" if trial.is_default else "")
