"""The audit that every new run goes through before its first step."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from volumen.config.load import LoadedConfig
from volumen.config.schema import Config
from volumen.data.device.choice import is_made_on
from volumen.data.loader import check_workers
from volumen.doctor.audit import AuditReport, check_codes, run_audit
from volumen.doctor.context import open_context
from volumen.doctor.cost.budget import AUDIT_SHARE, within_budget
from volumen.doctor.findings import Finding
from volumen.doctor.objective.progress_scale import measure_scales
from volumen.errors import UserError
from volumen.runs.folder import Audited
from volumen.runs.scales import NO_SCALES
from volumen.runtime import choose_device, choose_precision
from volumen.system.output import Progress, unheard
from volumen.system.stopping import OutOfTime, within
from volumen.training.initial import Materials
from volumen.training.objective import precomputed_targets


class RefusedRunError(UserError):
    """The audit found what stops a run, and nobody accepted it."""

    def __init__(self, refusals: Sequence[Finding]) -> None:
        self.refusals = tuple(refusals)
        codes = sorted({finding.code for finding in refusals})
        accept = " ".join(f"--accept {code}" for code in codes)
        listed = "\n".join(f"  {one.code} {one.title} ({one.where}): {one.remedies[0]}" for one in refusals)
        super().__init__(
            f"the audit refuses this run:\n{listed}\n"
            f"mend it (docs/audit.md explains the codes), or start it all the same with {accept}"
        )


def audit_first(
    loaded: LoadedConfig[Config],
    accepted: Sequence[str],
    *,
    budget_seconds: float | None = None,
    materials: Materials | None = None,
    progress: Progress = unheard,
    report: Callable[[AuditReport], None] = lambda report: None,
) -> Audited:
    """The quick audit of a run, and the scale on which its losses will be read.

    What the machine cannot do, or what is not there, is refused before it.

    Args:
        loaded: The run's configuration.
        accepted: Codes of findings that would stop it and are accepted.
        budget_seconds: The run's time budget: what it leaves of the run is audited, within a share of it.
        materials: Data set, fold and initial weights, which the training will use.
        progress: Told the title of the next check, its number and how many there are.
        report: Shown what was found, before anything is refused.

    Raises:
        UserError: The data set, fold or initial weights do not exist, device, precision or worker processes are not to
            be had here, or a code is unknown.
        RefusedRunError: A finding stops the run.
    """
    check_codes(tuple(accepted))
    config = loaded.config
    device, targets = choose_device(config.device), precomputed_targets(config.loss)
    choose_precision(config.precision, device)
    if not is_made_on(device, config.data, targets):
        check_workers(config.data.workers, config.data.patch, config.data.batch, len(targets))
    context = open_context(loaded, needs_folds=True, materials=materials)
    _ = context.initial  # read before anybody waits
    limit, scales = math.inf, NO_SCALES
    if budget_seconds is not None:
        began = time.perf_counter()
        progress("time of a step", 0, 1)
        context = within_budget(context, budget_seconds)
        progress("scale of progress", 0, 1)
        limit = AUDIT_SHARE * budget_seconds - (time.perf_counter() - began)
        with suppress(OutOfTime), within(limit / 2):
            scales = measure_scales(context)
        limit = AUDIT_SHARE * budget_seconds - (time.perf_counter() - began)
    began = time.perf_counter()
    found = run_audit(context, limit_seconds=limit, progress=progress)
    report(found)
    refusals = found.refusals(tuple(accepted))
    if refusals:
        raise RefusedRunError(refusals)
    if scales is NO_SCALES:  # without a budget, or where compiling took what there was; the audit has shared in that
        with suppress(OutOfTime), within(limit - (time.perf_counter() - began)):
            scales = measure_scales(context)
    findings = tuple(finding.to_dict() for finding in found.findings)
    return Audited(findings, tuple(accepted), scales)
