"""P1 and P2: do the labels mean what the run takes them for?"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.labels import IGNORE, NAMES, SURFACE
from volumen.doctor.check import Check
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.losses import CompositeLoss
from volumen.system.output import counted

DEEP_VOXELS = 6
"""Farther than this from all background, a voxel is in a block and in no sheet."""
MOST_DEEP = 0.10
MOST_LISTED = 8
CASES = 6
BLOCK = 96


def check_labels(context: Context) -> Iterator[Finding]:
    """Whether two label values have one meaning, and whether ignored voxels change the loss."""
    meanings = context.dataset.meanings
    for code, count in Counter(meanings.codes.values()).items():
        if count > 1:
            values = sorted(value for value, meaning in meanings.codes.items() if meaning == code)
            yield Finding(
                code="P1",
                severity=Severity.stop,
                title=f"label values {_listed(values)} are {'both' if count == 2 else 'all'} taken for {NAMES[code]}",
                evidence=f"declared: {meanings.written}; ignored voxels: {_share_of(context, IGNORE):.1%} of all",
                causes=("a value that means unlabelled was mapped to a class", "two classes were merged on purpose"),
                remedies=(
                    "declare what each value means in dataset.yaml (in the competition 2 is unlabelled: ignore)",
                    "what was numbered piece by piece is declared by a range (1-40: surface) or by others: surface",
                    "prepare the data set again",
                ),
                where="dataset.yaml: labels",
            )
    moved = _influence_of_ignored(context)
    if moved:
        yield Finding(
            code="P1",
            severity=Severity.stop,
            title="ignored voxels have an influence on the loss",
            evidence=f"scrambling them changes {', '.join(moved)}",
            causes=("a term does not mask ignored voxels",),
            remedies=("leave the term out, or mend it: value and gradient must be bit-identical",),
            where="loss.terms",
        )


def _listed(values: list[int]) -> str:
    shown = [
        *map(str, values[:MOST_LISTED]),
        *([f"{len(values) - MOST_LISTED} more"] if len(values) > MOST_LISTED else []),
    ]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _share_of(context: Context, code: int) -> float:
    cases = context.dataset.labelled
    return sum((case.label_histogram or {}).get(code, 0) for case in cases) / max(sum(c.voxels for c in cases), 1)


def _influence_of_ignored(context: Context) -> list[str]:
    """Terms whose value or gradient moves when logits and target of ignored voxels are scrambled."""
    labels = context.label_patches.copy()
    labels[:, :, : labels.shape[2] // 4] = IGNORE  # real patches may have none
    valid = torch.from_numpy(labels != IGNORE)
    target = torch.from_numpy((labels == SURFACE).astype(np.uint8))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((len(labels), 1, *labels.shape[1:]), generator=generator)
    noise = 5 * torch.randn(logits.shape, generator=generator)
    scrambled = torch.where(valid.unsqueeze(1), logits, noise)
    flipped = torch.where(valid, target, 1 - target)
    moved = []
    for objective in context.objectives.values():
        for name, (_, term) in objective.terms.items():
            single = CompositeLoss({name: (1.0, term)})
            before, after = (
                _value_and_gradient(single, *pair, valid) for pair in ((logits, target), (scrambled, flipped))
            )
            if not (torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])):
                moved.append(name)
    return sorted(set(moved))


def _value_and_gradient(
    objective: CompositeLoss, logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = logits.clone().requires_grad_()
    total = objective(leaf, target, valid).total
    (gradient,) = torch.autograd.grad(total, leaf)
    return total.detach(), gradient


def check_sheets(context: Context) -> Iterator[Finding]:
    """Whether what is labelled surface is thin."""
    ids = [case_id for case_id in context.training if context.dataset.case(case_id).surface_voxels]
    chosen = ids[:: max(1, len(ids) // CASES)][:CASES]
    deep = [_deep_share(np.asarray(context.dataset.label(case_id))) for case_id in chosen]
    if not deep or float(np.median(deep)) <= MOST_DEEP:
        return
    cases = [context.dataset.case(case_id) for case_id in ids]
    surface, valid = sum(case.surface_voxels for case in cases), sum(case.valid_voxels for case in cases)
    voxels = sum(case.voxels for case in cases)
    yield Finding(
        code="P2",
        severity=Severity.stop,
        title="what is labelled surface is no sheet",
        evidence=(
            f"median over {counted(len(deep), 'volume')}: {float(np.median(deep)):.0%} of the surface voxels "
            "lie more than "
            f"{DEEP_VOXELS} voxels inside it; surface is {surface / max(valid, 1):.1%} of the labelled and "
            f"{surface / voxels:.1%} of all voxels; declared: {context.dataset.meanings.written}"
        ),
        causes=(
            "unlabelled voxels are taken for surface (label > 0 instead of label == 1)",
            "the labels are of solid objects, for which topology of sheets is the wrong aim",
        ),
        remedies=("declare the value that means unlabelled as ignore in dataset.yaml and prepare again",),
        where="dataset.yaml: labels",
    )


def _deep_share(label: NDArray[np.uint8]) -> float:
    """Share of the surface voxels that are deep inside a block, in the middle of the volume."""
    middle = tuple(slice(max(0, (n - BLOCK) // 2), max(0, (n - BLOCK) // 2) + BLOCK) for n in label.shape)
    surface = label[middle] == SURFACE
    if not surface.any():
        return 0.0
    deep = ndimage.minimum_filter(surface, size=2 * DEEP_VOXELS + 1, mode="nearest")
    return float(deep.sum() / surface.sum())


LABELS = Check(code="P1", title="Label meanings", run=check_labels)
SHEETS = Check(code="P2", title="Surface that is no sheet", run=check_sheets)
