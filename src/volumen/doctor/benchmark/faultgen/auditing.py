"""What the audit says of a draw, kept for as long as the program is the same."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from volumen.config.load import load_config
from volumen.doctor.audit import open_context, run_audit
from volumen.doctor.benchmark.faultgen.bundle import Bundle, config_in, dataset_of
from volumen.doctor.benchmark.faultgen.draws import Draw, made
from volumen.errors import DamagedError, UserError
from volumen.files import write_atomically
from volumen.system.records import read_record, write_record

AUDITS, CONFIGS = "audits", "configs"
REFUSED = "refused"
"""Code of a set-up that the program refuses by itself, before any audit: no fault is caught more surely."""


@dataclass(frozen=True)
class Said:
    """The audit of a draw: findings that are more than a note, in the order in which they are shown."""

    draw: Draw
    findings: tuple[dict[str, str], ...]
    """Code, severity and title."""
    twin: tuple[dict[str, str], ...]
    """Of the healthy twin; what is said of it as well is not said of the fault."""
    seconds: float
    program: str
    full: bool


@cache
def program() -> str:
    """A digest of the program's code."""
    root = Path(__file__).parents[3]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if "benchmark" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def audit_draw(draw: Draw, out: Path, sources: tuple[Path, ...] = (), full: bool = False) -> Said:
    """Audit a draw and its healthy twin."""
    broken, twin = made(draw, sources, kept=out)
    of_twin: tuple[dict[str, str], ...] = ()
    if draw.group != "healthy":
        of_twin = audit_bundle(twin, out, f"twin-{draw.number}", full=full)[0]
    findings, seconds = audit_bundle(broken, out, draw.name, full=full)
    said = Said(draw, findings, of_twin, seconds, program(), full)
    place = _place(out, draw.name, full)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_record(place, asdict(said))
    return said


def kept(out: Path, draw: Draw, *, full: bool = False) -> Said | None:
    """What the audit said of a draw, where program and draw are the same."""
    place = _place(out, draw.name, full)
    if not place.is_file():
        return None
    try:
        said: Said = read_record(place, Said, "remove it")
    except DamagedError:
        return None
    return said if said.draw == draw and said.program == program() else None


def _place(out: Path, name: str, full: bool) -> Path:
    return out / AUDITS / f"{name}{'-full' if full else ''}.json"


def audit_bundle(bundle: Bundle, out: Path, name: str, *, full: bool) -> tuple[tuple[dict[str, str], ...], float]:
    """Findings of a set-up, and the seconds that they took; a healthy twin's are kept by its content."""
    try:
        tree = config_in(bundle, dataset_of(bundle, out), "draw")
    except UserError as error:
        return ({"code": REFUSED, "severity": "stop", "title": str(error)[:300]},), 0.0
    text = json.dumps(tree, indent=1)
    key = hashlib.sha256(f"{text} {full} {program()}".encode()).hexdigest()[:20]
    known = out / AUDITS / "twins" / f"{key}.json"
    shared = name.startswith("twin")
    if shared and known.is_file():
        kept_findings: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
        return tuple(kept_findings["findings"]), 0.0
    place = out / CONFIGS / f"{name}.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, text)
    began = time.perf_counter()
    try:
        context = replace(open_context(load_config(place)), parts=bundle.parts)
        said = run_audit(context, full=full).findings
    except UserError as error:
        return ({"code": REFUSED, "severity": "stop", "title": str(error)[:300]},), 0.0
    found = tuple(
        {"code": one.code, "severity": str(one.severity), "title": one.title} for one in said if one.severity != "note"
    )
    if shared:
        known.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(known, json.dumps({"findings": found}))
    return found, time.perf_counter() - began
