"""What the audit said, as a section of the report."""

from collections.abc import Sequence

from volumen.reporting.markup import Markup, html, joined
from volumen.reporting.record_types import FindingRecord

CHIPS = {"stop": "bad", "warn": "waiting", "note": "waiting"}


def findings_section(findings: Sequence[FindingRecord] | None) -> Markup:
    """Every finding with evidence and remedies; a sentence where there is none.

    Args:
        findings: Records of `findings.jsonl`, gravest first; None where the run was started without an audit.
    """
    if findings is None:
        return html("<p>The run was started without an audit.</p>")
    if not findings:
        return html("<p>Nothing was found.</p>")
    return joined(_finding(finding) for finding in findings)


def _finding(finding: FindingRecord) -> Markup:
    severity = finding["severity"]
    accepted = " accepted, and the run started all the same" if finding["accepted"] else ""
    return html(
        "<h3><span class='chip {kind}'>{code} {severity}{accepted}</span> {title}</h3><p>{evidence}</p>"
        "<p class='note'>{where}</p><ul class='note'>{remedies}</ul>",
        kind=CHIPS[severity],
        code=finding["code"],
        severity=severity,
        accepted=accepted,
        title=finding["title"],
        evidence=finding["evidence"],
        where=finding["where"],
        remedies=joined(html("<li>{}</li>", remedy) for remedy in finding["remedies"]),
    )
