"""What a run is told of before its first step."""

from typing import Any

from volumen.data.spacing import not_cubes
from volumen.training.session import Session


def facts_of(session: Session) -> dict[str, Any]:
    """Device, precision, processes, sizes and cases, for whoever shows the run."""
    cases = (*session.patches.case_ids, *session.held_out)
    return {
        "device": str(session.device),
        "precision": session.precision.name,
        "processes": session.world.size,
        "parameters": sum(parameter.numel() for parameter in session.state.model.parameters()),
        "training_cases": len(session.patches.case_ids),
        "validation_cases": len(session.held_out),
        "steps_per_epoch": session.loader.batches_per_epoch,
        "step": session.state.cursor.step,
        "warn": session.warning,
        "notes": [
            *session.patches.notes,
            *session.loader.notes,
            *not_cubes({name: session.dataset.spacing(name) for name in cases}),
        ],
    }
