"""What a run says, as a few lines of Markdown."""

from collections.abc import Mapping
from typing import Any

from volumen.config.dump import dump_config, dump_yaml
from volumen.config.schema import Config

LONGEST_TEXT = 20_000


def yaml_text(config: Config) -> str:
    """The configuration, as its file has it."""
    return _block(dump_config(config), "yaml")


def finding_text(finding: Mapping[str, Any]) -> str:
    """A finding of the audit: how grave, what, and all of it."""
    head = f"{finding.get('code', '')} {finding.get('severity', '')}".strip()
    return f"{head}\n\n{_details(finding, {'code', 'severity', 'moment'})}"


def event_text(event: Mapping[str, Any]) -> tuple[str, str]:
    """An event's name among the texts, and what it says."""
    kind = str(event["kind"])
    if kind == "sign":
        return f"signs/{event['code']}", f"{event['code']} {event['severity']}: {event['evidence']}"
    if kind == "warning":
        return "warnings", str(event["message"])
    return f"events/{kind}", _details(event, {"kind"})


def _details(values: Mapping[str, Any], without: set[str]) -> str:
    kept = {key: value for key, value in values.items() if key not in without}
    return _block(dump_yaml(kept), "yaml") if kept else "-"


def _block(text: str, language: str) -> str:
    """Text that is shown as it stands; a fence is longer than any that it holds."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()[:LONGEST_TEXT]}\n{fence}"
