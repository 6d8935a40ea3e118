"""What `volumen audit liveness` prints: every setting, where it was set, and whether it acts."""

from collections.abc import Sequence

from rich.console import Console

from volumen.config.describe import value_text
from volumen.doctor.settings.check import Effect, Setting
from volumen.reporting.console import plain_table

STYLES = {Effect.ignored: "bold red", Effect.inert: "yellow", Effect.dead: "yellow"}
WORDS = {
    Effect.live: "acts",
    Effect.dead: "never acts",
    Effect.inert: "changes nothing",
    Effect.ignored: "IGNORED",
    Effect.excluded: "for people",
}
LONGEST = 20  # characters of a value that are shown


def print_liveness(settings: Sequence[Setting], defaults: int, console: Console) -> None:
    """Print a row for each setting, and how many values stand at their defaults."""
    table = plain_table("Settings of the configuration", ("key", "value", "what", "set in"))
    for one in settings:
        text = value_text(one.value)
        reason = f": {one.reason}" if one.reason and one.verdict != Effect.excluded else ""
        reason += "; the default, written out" if one.is_default and one.verdict == Effect.inert else ""
        shown = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
        table.add_row(one.key, shown, WORDS[one.verdict] + reason, one.origin, style=STYLES.get(one.verdict))
    console.print(table)
    counts = {verdict: sum(one.verdict == verdict for one in settings) for verdict in Effect}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(f"{told}; {defaults} values stand at their defaults", soft_wrap=True)
