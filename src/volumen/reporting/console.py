"""Where tables are printed and how they look, for every command alike."""

from collections.abc import Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from volumen.system.names import printable

PIPE_WIDTH = 120  # characters; tables here are narrower, so nothing is ever cut off in a file
TEXT_COLUMNS = ("scroll", "shape z y x", "what", "effect", "curve", "parameters")


class PlainConsole(Console):
    """A console on which text is text: nothing in it is markup, an emoji's name or an order to the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string comes through here, those in cells and titles of tables as well."""
        return super().render_str(printable(text), **options)


def console_for(stream: IO[str] | None = None) -> Console:
    """A console that never cuts a table off: the terminal's own width, or enough where there is none."""
    console = PlainConsole(file=stream)
    return console if console.is_terminal else PlainConsole(file=stream, width=PIPE_WIDTH, no_color=True)


def plain_table(title: str, headings: Sequence[str]) -> Table:
    """An empty table: text to the left, numbers to the right, no frame."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        left = number == 0 or heading in TEXT_COLUMNS
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    return table


def print_legend(text: str, console: Console) -> None:
    """What a table's headings mean, below it."""
    console.print(f"{text}\n", style="dim")


def print_remarks(warnings: Sequence[str], notes: Sequence[str], console: Console) -> None:
    """Warnings, then notes, a line each."""
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)
