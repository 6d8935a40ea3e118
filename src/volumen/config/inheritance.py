"""Files, presets and what they are based on: from a source to layers, the most basic one first.

`base: other.yaml`, `base: preset:NAME` or a list of these stands at the top of a file; paths are relative to that
file. Of several bases the later wins. A file that is reached twice lies once, as low as its first use needs: what
refines it always wins over it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from volumen.config.describe import close_to, got_text
from volumen.config.problems import ConfigError, Problem
from volumen.config.source import Located, is_file, read_tree

PRESETS = Path(__file__).parent / "presets"
PRESET = "preset:"
BASE = "base"
PROVENANCE = "provenance"
"""Key under which a run folder's `config.yaml` records hash and versions: a record of that run, not a setting."""
MOST_FILES = 50
"""That one configuration is based on, all together."""


def preset_names() -> list[str]:
    """Names that `preset:NAME` accepts."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_layers(source: Path | str, problems: list[Problem]) -> list[Located]:
    """What the source and everything it is based on say, most basic first; the origin of each is the file.

    Args:
        source: a path, or `preset:NAME`.
        problems: every mistake found is appended; a file that cannot be read is left out.

    Raises:
        ConfigError: when the source itself does not exist or cannot be read.
    """
    path, complaint = _find(str(source), Path())
    if path is None:
        raise ConfigError(str(source), [Problem("", "", complaint)])
    layers: dict[Path, Located] = {}
    _collect(path, (), layers, set(), problems)
    return list(layers.values())


def _collect(
    path: Path, chain: tuple[Path, ...], layers: dict[Path, Located], met: set[Path], problems: list[Problem]
) -> None:
    """Add the bases of `path`, then `path` itself, to `layers`.

    `chain` holds the files that led here, `met` every file that was opened so far, damaged ones too.
    """
    met.add(path)
    layer = read_layer(path, problems)
    if layer is None:
        return
    here = (*chain, path)
    for reference, origin in _bases(layer.child(BASE), problems):
        base, complaint = _find(reference, path.parent)
        if base is None:
            problems.append(Problem(origin, BASE, complaint, blocking=True))
        elif base in here:
            circle = " -> ".join(_label(member) for member in (*here[here.index(base) :], base))
            text = f"the files are based on each other ({circle}); remove one `base:`"
            problems.append(Problem(origin, BASE, text, blocking=True))
        elif base not in met and len(met) >= MOST_FILES:
            text = f"more than {MOST_FILES} files lie under this configuration; join some of them"
            problems.append(Problem(origin, BASE, text, blocking=True))
            break
        elif base not in met:
            _collect(base, here, layers, met, problems)
    assert isinstance(layer.value, dict)
    settings = {key: item for key, item in layer.value.items() if key not in (BASE, PROVENANCE)}
    layers[path] = Located(settings, layer.origin)


def read_layer(path: Path, problems: list[Problem]) -> Located | None:
    """What one file says, all of it; None where it is no mapping or cannot be read."""
    label = _label(path)
    parsed = read_tree(path, label, problems)
    if parsed is None:
        return None
    if not isinstance(parsed.value, dict | None):
        text = "expected `key: value` lines, got a list or a single value"
        problems.append(Problem(parsed.origin, "", text, blocking=True))
        return None
    return Located(parsed.value or {}, label)


def bases_of(source: str) -> tuple[str, ...]:
    """What a file names under `base:`, as messages call it; a source that cannot be read names none."""
    path, _ = _find(source, Path())
    layer = None if path is None else read_layer(path, [])
    if path is None or layer is None:
        return ()
    found = [_find(reference, path.parent)[0] for reference, _ in _bases(layer.child(BASE), [])]
    return tuple(_label(base) for base in found if base is not None)


def _bases(written: Located | None, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """Each reference under `base:` with its origin."""
    if written is None:
        return
    for item in written.value if isinstance(written.value, list) else [written]:
        if isinstance(item.value, str) and item.value:
            yield item.value, item.origin
        else:
            text = f"expected a file, `{PRESET}NAME` or a list of these, got {got_text(item.plain())}"
            problems.append(Problem(item.origin, BASE, text, blocking=True))


def _find(reference: str, folder: Path) -> tuple[Path | None, str]:
    """The absolute path of a reference, or None and what is wrong with it."""
    if reference.startswith(PRESET):
        name, names = reference.removeprefix(PRESET), preset_names()
        if name in names:
            return (PRESETS / f"{name}.yaml").resolve(), ""
        close = close_to(name, names)
        hint = f"did you mean {PRESET}{close[0]}? " if close else ""
        return None, f"there is no preset {name!r}; {hint}presets: {', '.join(names) or 'none'}"
    path = folder / os.path.expanduser(reference)
    if is_file(path):
        return path.resolve(), ""
    if os.path.isdir(path):
        inside = path / "config.yaml"
        hint = f"give {inside}" if is_file(inside) else "give a YAML file"
        return None, f"{path} is a folder; {hint}"
    hint = f"; did you mean {PRESET}{reference}?" if reference in preset_names() else ""
    return None, f"there is no file {path}{hint or f'; give an existing YAML file or {PRESET}NAME'}"


def _label(path: Path) -> str:
    """How a file is called in messages: preset:NAME, relative to the working folder, or in full."""
    if path.parent == PRESETS.resolve():
        return f"{PRESET}{path.stem}"
    here = Path(os.getcwd()).resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
