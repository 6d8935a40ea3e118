"""A progress bar on a terminal's standard error; nothing in a pipe, where it would only be noise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar while the block runs; it is moved by calling what this yields with a name, what is done, the total."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from volumen.reporting.console import PlainConsole
    from volumen.system.names import printable

    console = PlainConsole(stderr=True)
    counts = TextColumn(f"{{task.completed}}/{{task.total}} {unit}")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), counts, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def show(name: str, done: int, of: int) -> None:
            bar.update(task, description=printable(name), completed=done, total=of)

        yield show
