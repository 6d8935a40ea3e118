"""The audit of any PyTorch code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from volumen.doctor.code.audit import Looked
    from volumen.doctor.findings import Finding


@dataclass(frozen=True)
class CodeReport:
    """What an audit of code found; `print` shows it."""

    findings: tuple[Finding, ...]
    """Gravest first; of one severity, causes before what they cause."""
    checks: tuple[Looked, ...]
    """What was done, or what was missing for it."""

    @property
    def stops(self) -> tuple[Finding, ...]:
        """The findings by which the training cannot reach what it is meant to."""
        return tuple(one for one in self.findings if one.severity == "stop")

    def to_dict(self) -> dict[str, Any]:
        """Plain values: `findings` and `checks`."""
        from volumen.doctor.code.audit import Found

        return Found(self.findings, self.checks).to_dict()

    def write_page(self, path: str | Path) -> Path:
        """Write the findings as one HTML file.

        Raises:
            UserError: The file cannot be written.
        """
        from volumen.files import write_atomically
        from volumen.reporting.code_page import code_page
        from volumen.system.places import writable_file

        place = Path(path)
        writable_file(place, "choose another file")
        write_atomically(place, code_page(self.findings, self.checks))
        return place

    def __str__(self) -> str:
        lines = []
        for one in self.findings:
            lines += [
                f"{one.code} {one.severity}: {one.title}",
                f"  where    {one.where}",
                f"  evidence {one.evidence}",
            ]
            lines += [f"  cause    {cause}" for cause in one.causes] + [
                f"  remedy   {remedy}" for remedy in one.remedies
            ]
        ran = [one for one in self.checks if one.ran]
        counts = f"{len(self.findings)} findings" if len(self.findings) != 1 else "1 finding"
        lines.append(f"{counts if self.findings else 'nothing found'} in {sum(one.seconds for one in ran):.1f} s")
        lines += [f"  {one.code:3} {one.name}: {one.done}" for one in self.checks]
        return "\n".join(lines)


def audit_code(
    *,
    model: Any = None,
    loss: Callable[..., Any] | None = None,
    batches: Any = None,
    optimiser: Any = None,
    step: Callable[..., Any] | None = None,
    predict: Callable[..., Any] | None = None,
    save: Callable[..., Any] | None = None,
    load: Callable[..., Any] | None = None,
    schedule: Any = None,
    raw: tuple[Any, Any] | None = None,
    volume: Any = None,
    also: Any = None,
    ignore_index: int | None = None,
    classes: int | None = None,
    frozen: Sequence[str] = (),
    threshold: float = 0.5,
    steps: int | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    seed: int = 0,
) -> CodeReport:
    """Look for what will make a training of segmentation useless, in any PyTorch code, before it starts.

    Every part is optional; what is missing for a check is said. Nothing is trained for long, and afterwards weights,
    gradients, modes, optimiser and random numbers are as they were, bit for bit.

    Args:
        model: `torch.nn.Module` in 2-D or 3-D, or a function that makes one; it may give several outputs.
        loss: `loss(output, target)` or `loss(output, target, valid)`, with `epoch=` where it takes one.
        batches: Iterable, or function, of (image [N, C, ...], target), (image, target, valid) or mappings.
        optimiser: Or a function of the model's parameters.
        step: One training step of your own: `step()`, `step(batch)` or `step(image, target)`.
        predict: `predict(volume)` to a mask or probabilities of the volume's shape.
        save: `saved = save()`, or `save(path)`.
        load: `load(saved)`, or `load(path)`.
        schedule: Of the learning rate.
        raw: Image and label as the files hold them, of the first batch's first sample.
        volume: What `predict` is given, as the file holds it.
        also: Whatever else a training changes: averages, a loss scale, its own counters.
        ignore_index: The label of voxels that do not count.
        classes: With the background; otherwise the model's channels.
        frozen: Names, or beginnings of names, of parameters that are meant to stay as they are.
        threshold: Probability from which on `predict` says foreground.
        steps: Length of the training.
        image_key: Name of the images in a batch that is a mapping.
        label_key: Name of its labels.
        seed: Of the audit's own random numbers.

    Raises:
        UserError: A part cannot be called; the message has the form that is expected.
    """
    from volumen.doctor.code.audit import audit_subject, subject_of

    parts = {
        "model": model, "loss": loss, "batches": batches, "optimiser": optimiser, "step": step, "predict": predict,
        "save": save, "load": load, "schedule": schedule, "raw": raw, "volume": volume, "also": also,
        "ignore_index": ignore_index, "classes": classes, "frozen": tuple(frozen), "threshold": threshold,
        "steps": steps, "seed": seed,
    }  # fmt: skip
    found = audit_subject(subject_of(parts, (image_key, label_key)))
    return CodeReport(found.findings, found.looked)
