"""A progress bar on a terminal's standard error; in a pipe, where that would only be noise, a line now and then."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from volumen.system.output import Progress

PLAIN_EVERY_SECONDS = 10.0


@contextmanager
def progress_bar(title: str, unit: str, *, plain: bool = False) -> Iterator[Progress]:
    """Show a bar while the block runs; it is moved by calling what this yields with a name, what is done, the total.

    Args:
        title: What goes on.
        unit: What is counted.
        plain: In a pipe say every so many seconds what goes on.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from volumen.reporting.console import PlainConsole
    from volumen.system.names import printable

    console = PlainConsole(stderr=True)
    counts = TextColumn(f"{{task.completed}}/{{task.total}} {unit}")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), counts, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        said = time.monotonic()

        def show(name: str, done: int, of: int) -> None:
            nonlocal said
            bar.update(task, description=printable(name), completed=done, total=of)
            if plain and not console.is_terminal and time.monotonic() - said > PLAIN_EVERY_SECONDS:
                said = time.monotonic()
                console.print(f"{title}: {printable(name)} ({done}/{of} {unit})", markup=False, soft_wrap=True)

        yield show
