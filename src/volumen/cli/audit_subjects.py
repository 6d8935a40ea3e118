"""What `volumen audit` can show in place of its findings: one function by the word before the configuration."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.doctor.audit import Context


@dataclass(frozen=True)
class SubjectOptions:
    """What the command line says of how to show it."""

    as_json: bool
    page: Path | None
    batch: int | None = None
    """Another batch size whose cost is shown beside the configured one's."""


def _loss(context: "Context", options: SubjectOptions) -> int:
    """The autopsy of the objective."""
    from volumen.reporting.console import console_for
    from volumen.reporting.doctor_tables import print_autopsy

    if options.page is not None:
        from volumen.files import write_atomically
        from volumen.reporting.autopsy_page import autopsy_page
        from volumen.system.places import writable_file

        writable_file(options.page, "choose another file with --page")
        parts = (context.autopsies, context.operating_points, context.image_patches, context.label_patches)
        write_atomically(options.page, autopsy_page(context.config.name, *parts))
        say(f"written: {options.page}", aside=options.as_json)
    if options.as_json:
        say(json.dumps({phase: found.to_dict() for phase, found in context.autopsies.items()}, indent=2))
        return 0
    for phase, found in context.autopsies.items():
        print_autopsy(phase, found, context.operating_points[phase], console_for())
    return 0


def _noise(context: "Context", options: SubjectOptions) -> int:
    """Which differences are real."""
    from volumen.files import strict_json
    from volumen.reporting.console import console_for
    from volumen.reporting.doctor_tables import print_noise

    if options.as_json:
        say(json.dumps(strict_json(asdict(context.noise)), indent=2))
    else:
        print_noise(context.noise, console_for())
    return 0


def _liveness(context: "Context", options: SubjectOptions) -> int:
    """What each setting changes."""
    from volumen.doctor.audit.liveness import examine_settings
    from volumen.reporting.console import console_for
    from volumen.reporting.doctor_tables import print_liveness

    examination = examine_settings(context)
    if options.as_json:
        say(json.dumps([trial.to_dict() for trial in examination.trials], indent=2))
    else:
        print_liveness(examination, console_for())
    return 0


def _rate(context: "Context", options: SubjectOptions) -> int:
    """Which learning rates the run bears."""
    from volumen.doctor.rate_range import measure_rates
    from volumen.files import strict_json
    from volumen.reporting.console import console_for
    from volumen.reporting.doctor_tables import print_rates

    found = measure_rates(context)
    if options.as_json:
        say(json.dumps(strict_json(asdict(found)), indent=2))
    else:
        print_rates(found, console_for())
    return 0


def _cost(context: "Context", options: SubjectOptions) -> int:
    """What a step, an epoch and the run cost, and what another batch size would change."""
    from volumen.doctor.cost.plan import measure_cost
    from volumen.files import strict_json
    from volumen.reporting.console import console_for
    from volumen.reporting.doctor_tables import print_cost

    cost = measure_cost(context, batch=options.batch)
    if options.as_json:
        say(json.dumps(strict_json(cost.to_dict()), indent=2))
    else:
        print_cost(cost, console_for())
    return 0


SUBJECTS: dict[str, Callable[["Context", SubjectOptions], int]] = {
    "loss": _loss,
    "liveness": _liveness,
    "noise": _noise,
    "rate": _rate,
    "cost": _cost,
}
