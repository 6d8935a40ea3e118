"""P6: settings that cannot act or that the run's code ignores, and an objective that is not the configured one."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from volumen.config.describe import value_text
from volumen.config.dump import flat_values
from volumen.config.problems import DEFAULT
from volumen.config.schema import Config
from volumen.doctor.check import Check
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.goals import check_judged
from volumen.doctor.settings.course import check_course
from volumen.doctor.settings.effective import check_effective
from volumen.doctor.settings.laws import FILLED, never_acting, switched_off
from volumen.doctor.settings.reads import KIND, unread

WEIGHTS = ("loss.terms.*.weight", "loss.curriculum.*.weights.*")
FOR_PEOPLE = ("name", "experiment.*", "loss.curriculum.*.name")
"""Keys that change no number, and are not meant to."""


class Effect(StrEnum):
    """What becomes of a setting."""

    live = "live"
    """Nothing keeps it from acting."""
    ignored = "ignored"
    """The run's own code does not read it, where the package's would."""
    inert = "inert"
    """Another setting, or the volumes, keep it from acting."""
    dead = "dead"
    """The run's length or parts leave it no room."""
    excluded = "excluded"
    """It is for people."""


@dataclass(frozen=True)
class Setting:
    """One value that a file or an override sets."""

    key: str
    value: Any
    origin: str
    is_default: bool
    """The value is the schema's own default, written out."""
    verdict: Effect
    reason: str = ""
    """Why it does not act."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the fields: the stable form of `volumen audit liveness --json`."""
        return {**asdict(self), "verdict": str(self.verdict)}


def examine_settings(context: Context) -> tuple[Setting, ...]:
    """What becomes of every value that a file or an override sets."""
    dead, off, ignored = never_acting(context.config), switched_off(context), unread(context)

    def judged(key: str) -> tuple[Effect, str]:
        if _matches(key, FOR_PEOPLE):
            return Effect.excluded, "it is for people"
        for one in dead:
            if one.holds_for(key):
                return Effect.dead, one.reason
        for two in off:
            if _matches(key, two.patterns):
                return Effect.inert, two.reason
        if key in ignored:
            return Effect.ignored, "the run's own code does not read it, the package's does"
        return Effect.live, ""

    values = flat_values(context.config)
    keys = [key for key in values if context.origins.get(key, DEFAULT) != DEFAULT]
    return tuple(
        Setting(key, values[key], context.origins[key], _is_default(context.config, key, values[key]), *judged(key))
        for key in keys
    )


def _is_default(config: Config, key: str, value: Any) -> bool:
    """Whether a value is what the schema has where nobody writes it; that of a `kind` is its section's."""
    node: Any = config
    default: Any = None
    for name in key.split("."):
        if isinstance(node, BaseModel):
            field = type(node).model_fields[name]
            default = getattr(default, KIND, None) if name == KIND else field.get_default(call_default_factory=True)
            node = getattr(node, name)
        elif isinstance(node, tuple):
            default, node = PydanticUndefined, node[int(name)]
        else:
            return False
    return bool((list(default) if isinstance(default, tuple) else default) == value)


def check_settings(context: Context) -> Iterator[Finding]:
    """Whether every setting acts, and whether the objective that runs is the configured one."""
    for dead in never_acting(context.config):
        yield Finding(
            code="P6",
            severity=dead.severity,
            title=f"{dead.key} {dead.how}",
            evidence=dead.reason,
            causes=("another setting was changed since", "the setting belongs to something that is switched off"),
            remedies=(dead.remedy,),
            where=context.where(dead.key),
        )
    yield from check_judged(context)
    if context.budget is not None:  # what a setting does is asked of the run as it was written, not of its only epoch
        context = replace(context, config=context.budget.configured, budget=None)
    yield from check_course(context)
    wrong_weights = list(check_effective(context))
    yield from wrong_weights
    for setting in examine_settings(context):
        if wrong_weights and _matches(setting.key, WEIGHTS):  # they are named with their numbers already
            continue
        if setting.verdict == Effect.ignored:
            yield _ignored(context, setting)
        elif setting.verdict == Effect.inert and not setting.is_default:
            yield _inert(context, setting)


def _ignored(context: Context, setting: Setting) -> Finding:
    return Finding(
        code="P6",
        severity=Severity.stop,
        title=f"the run ignores {setting.key}",
        evidence=(
            f"it is {value_text(setting.value)}, and the run's own makers of objective and state never read it; the "
            "package's do"
        ),
        causes=("the code that builds objective or state has a value of its own",),
        remedies=("hand the configuration's value on", "take the setting out of the file, so that it promises nothing"),
        where=context.where(setting.key),
    )


def _inert(context: Context, setting: Setting) -> Finding:
    return Finding(
        code="P6",
        severity=Severity.note if setting.reason in FILLED else Severity.warn,
        title=f"{setting.key} changes nothing",
        evidence=f"it is {value_text(setting.value)}, and {setting.reason}",
        causes=(
            "a switch, a weight or a probability of 0 beside it keeps it out of the run",
            "the volumes, or the length of the run, leave it no room",
        ),
        remedies=("switch on what it belongs to", "leave it out"),
        where=context.where(setting.key),
    )


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


SETTINGS = Check(code="P6", title="Settings that act", run=check_settings)
