"""What the audit said, as a section of the report."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

CHIPS = {"stop": "bad", "warn": "waiting", "note": "waiting"}


def findings_section(findings: Sequence[Mapping[str, Any]] | None) -> str:
    """Every finding with evidence and remedies; a sentence where there is none.

    Args:
        findings: Records of `findings.jsonl`, gravest first; None where the run was started without an audit.
    """
    if findings is None:
        return "<p>The run was started without an audit.</p>"
    if not findings:
        return "<p>Nothing was found.</p>"
    return "".join(_finding(finding) for finding in findings)


def _finding(finding: Mapping[str, Any]) -> str:
    severity = str(finding["severity"])
    accepted = " accepted, and the run started all the same" if finding["accepted"] else ""
    remedies = "".join(f"<li>{escape(str(remedy))}</li>" for remedy in finding["remedies"])
    return (
        f"<h3><span class='chip {CHIPS[severity]}'>{escape(str(finding['code']))} {severity}{accepted}</span> "
        f"{escape(str(finding['title']))}</h3><p>{escape(str(finding['evidence']))}</p>"
        f"<p class='note'>{escape(str(finding['where']))}</p><ul class='note'>{remedies}</ul>"
    )
