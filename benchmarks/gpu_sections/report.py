"""What was found, written after each row, so that whoever ends the benchmark early keeps what there is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from volumen.files import write_atomically


class Report:
    """Rows by section, as JSON and as Markdown.

    Args:
        folder: Where `gpu.json` and `gpu.md` are written.
        facts: What it was measured on.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.sections: dict[str, list[dict[str, Any]]] = {}
        self.notes: list[str] = []

    def add(self, section: str, **values: Any) -> None:
        """A row of a section's table."""
        self.sections.setdefault(section, []).append(values)
        print(f"{section}: " + ", ".join(f"{name} {shown(value)}" for name, value in values.items()), flush=True)
        self.write()

    def note(self, text: str) -> None:
        """A sentence, such as what was left out."""
        self.notes.append(text)
        print(f"note: {text}", flush=True)
        self.write()

    def attempt(self, what: str, job: Callable[[], None]) -> None:
        """Do a part that may be missing or too large here; what it cannot is a note and not the end of the rest."""
        try:
            job()
        except Exception as error:  # whatever another library raises: the other figures are wanted all the same
            text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            self.note(f"{what} is left out: {text:.300}")

    def write(self) -> None:
        """Replace both files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {"facts": self.facts, "notes": self.notes, "sections": self.sections}
        write_atomically(self.folder / "gpu.json", json.dumps(found, indent=1).encode())
        write_atomically(self.folder / "gpu.md", self.markdown().encode())

    def markdown(self) -> str:
        """All sections as tables."""
        parts = ["\n".join(f"- {name}: {value}" for name, value in self.facts.items())]
        for section, rows in self.sections.items():
            columns = list(dict.fromkeys(name for row in rows for name in row))
            lines = [f"## {section}", "", _line(columns), _line(["---"] * len(columns))]
            lines += [_line([shown(row.get(name, "")) for name in columns]) for row in rows]
            parts.append("\n".join(lines))
        parts.append("\n".join(f"- {text}" for text in self.notes))
        return "\n\n".join(part for part in parts if part) + "\n"


def shown(value: Any) -> str:
    """A number to four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
