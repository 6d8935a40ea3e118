"""Make the changelog of a version from the files of this folder, one a change; README.md says how they are called."""

import argparse
import re
import sys
import textwrap
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CHANGELOG = FOLDER.parent / "CHANGELOG.md"
KINDS = ("added", "changed", "fixed", "removed")
NAME = re.compile(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md")
TITLE = "# Changelog\n"


def fragments(folder: Path = FOLDER) -> list[Path]:
    """The files, one a change, by name.

    Raises:
        ValueError: A file that is called otherwise, or is empty.
    """
    found = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    for path in found:
        if not NAME.fullmatch(path.name):
            raise ValueError(f"{path.name}: expected NAME.KIND.md with KIND one of {', '.join(KINDS)}")
        if not path.read_text(encoding="utf-8").strip():
            raise ValueError(f"{path.name} is empty: say what a user notices")
    return found


def section(folder: Path = FOLDER) -> str:
    """The entries of all files, by kind."""
    parts = []
    for kind in KINDS:
        texts = [
            path.read_text(encoding="utf-8").strip() for path in fragments(folder) if path.name.endswith(f".{kind}.md")
        ]
        entries = [f"- {textwrap.indent(text, '  ')[2:]}" for text in texts]
        parts += [f"### {kind.capitalize()}\n" + "\n".join(entries) + "\n"] if entries else []
    return "\n".join(parts)


def release(version: str, folder: Path = FOLDER, changelog: Path = CHANGELOG) -> None:
    """Put the section of a version on top of the changelog, and remove its files.

    Raises:
        ValueError: Nothing has changed, the version is there already, or the changelog has another head.
    """
    made, text = section(folder), changelog.read_text(encoding="utf-8")
    if not made:
        raise ValueError("no file here says what has changed")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or re.search(rf"^## {re.escape(version)}$", text, re.M):
        raise ValueError(f"{version} is no version such as 0.3.0, or stands in {changelog.name} already")
    if not text.startswith(TITLE):
        raise ValueError(f"{changelog.name} must begin with {TITLE.strip()!r}")
    changelog.write_text(f"{TITLE}\n## {version}\n\n{made}{text[len(TITLE) :]}", encoding="utf-8")
    for path in fragments(folder):
        path.unlink()


def main() -> int:
    """Print the section, or release it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", metavar="VERSION", help="put it on top of CHANGELOG.md and remove the files")
    wanted = parser.parse_args().release
    try:
        if wanted is None:
            print(section(), end="")
        else:
            release(wanted)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
