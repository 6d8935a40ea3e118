"""The table of what is looked at in somebody's code, and its run."""

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from volumen.doctor.code.given import check_batches
from volumen.doctor.code.head import check_head
from volumen.doctor.code.ignoring import check_ignored, check_waiting
from volumen.doctor.code.kept import Kept, seed_all
from volumen.doctor.code.learning import check_optimiser, check_step
from volumen.doctor.code.network import check_network
from volumen.doctor.code.objective import check_objective
from volumen.doctor.code.origin import check_origin
from volumen.doctor.code.prediction import check_prediction
from volumen.doctor.code.resume import check_resume
from volumen.doctor.code.subject import Subject, finding, finest, parameters_of, read_batches
from volumen.doctor.findings import Finding, Severity, gravest_first
from volumen.errors import UserError


@dataclass(frozen=True)
class Look:
    """One check of code."""

    code: str
    name: str
    done: str
    """What is done, in one sentence."""
    needs: tuple[str, ...]
    """The parts without which it cannot be done."""
    run: Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True)
class Looked:
    """What became of one check."""

    code: str
    name: str
    done: str
    """What was done, or what was missing for it."""
    seconds: float
    ran: bool


@dataclass(frozen=True)
class Found:
    """What an audit of code found, gravest first, and what was looked at."""

    findings: tuple[Finding, ...]
    looked: tuple[Looked, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: findings and checks."""
        return {
            "findings": [one.to_dict() for one in self.findings],
            "checks": [asdict(one) for one in self.looked],
        }


LOOKS = (
    Look("P7", "batches", "Grey values and label values of up to 16 samples were looked at, and each label was held "
         "against its image in place, turned, mirrored and shifted.", ("batches",), check_batches),
    Look("P7", "origin", "The first patch was looked for in the raw image, and its label in the raw label.",
         ("batches", "raw"), check_origin),
    Look("P5", "loss", "The loss was given free logits on synthetic sheets: right, wrong, constant and minimised, "
         "its gradient against its differences, and batches of equal samples.", ("loss",), check_objective),
    Look("P8", "head", "The last layer's output was replaced by noise of growing size, to see which values the network "
         "can give and whether the loss takes those.", ("model", "batches"), check_head),
    Look("P1", "ignored voxels", "The logits of ignored voxels were scrambled, to see whether loss or gradient change.",
         ("loss",), check_ignored),
    Look("P6", "later losses", "The loss was given one input in later epochs and again and again.",
         ("loss",), check_waiting),
    Look("P8", "network", "The network was given other neighbours, random numbers, zeros and scrambled voxels, and "
         "one backward pass was made.", ("model", "batches"), check_network),
    Look("P8", "optimiser", "The optimiser's parameters were held against the model's, and its rates and decay against "
         "what can work.", ("optimiser",), check_optimiser),
    Look("P8", "steps", "One training step was made and its change measured, then a few on the same batch.",
         ("model",), check_step),
    Look("P8", "resume", "After a few steps all was saved, set back, and loaded, and what did not come back was looked "
         "for.", ("save", "load"), check_resume),
    Look("P8", "prediction", "A volume was predicted with the network, and with one that gives its input back.",
         ("predict",), check_prediction),
)  # fmt: skip
"""In the order in which they run; what one finds out, later ones know."""


def audit_subject(subject: Subject) -> Found:
    """Run every check whose parts are there; afterwards everything is as it was, bit for bit.

    Raises:
        UserError: A part cannot be called in any known form.
    """
    kept = Kept(subject.roots)
    findings: list[Finding] = []
    looked: list[Looked] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            findings += _whole(subject)
            for look in LOOKS:
                missing = [name for name in look.needs if getattr(subject, name) in (None, ())]
                missing += ["a model that runs"] if "model" in look.needs and subject.known.get("model_fails") else []
                if missing:
                    said = f"Left out: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not given."
                    looked.append(Looked(look.code, look.name, said, 0.0, ran=False))
                    continue
                began = time.perf_counter()
                found = _looked(subject, look, kept)
                subject.known |= {one.code: True for one in found}
                findings += found
                kept.restore()
                looked.append(Looked(look.code, look.name, look.done, time.perf_counter() - began, ran=True))
    finally:
        kept.restore()
    return Found(gravest_first(findings), tuple(looked))


def _looked(subject: Subject, look: Look, kept: Kept) -> list[Finding]:
    """The findings of one check; a part that raises is a finding too."""
    found: list[Finding] = []
    seed_all(subject.seed)
    try:
        with torch.enable_grad():
            found.extend(look.run(subject))
    except UserError:
        raise
    except Exception as error:  # whatever somebody's code raises here it raises in the training
        kept.restore()
        found.append(
            finding(
                "P8",
                Severity.stop,
                f"the code fails while its {look.name} is looked at",
                f"{type(error).__name__}: {error}",
                "the parts do not fit together as they do in the training",
                "mend what the message names, or hand over the parts as the training uses them",
                look.needs[0],
            )
        )
    return found


def _whole(subject: Subject) -> list[Finding]:
    """Whether model and loss run on the first batch at all."""
    model = subject.model
    if model is None or not subject.batches:
        return []
    kept = Kept(subject.roots)
    try:
        model.train()
        with torch.no_grad():
            finest(model(subject.moved(subject.batch.image)))
            finest(subject.template)
    except UserError:
        raise
    except Exception as error:
        kept.restore()
        subject.known["model_fails"] = subject.known["loss_fails"] = True
        return [finding("P8", Severity.stop, "the network fails on the first batch", f"{type(error).__name__}: {error}",
                        "an image of another shape or type than the network takes", "mend what the message names",
                        "model")]  # fmt: skip
    kept.restore()
    return []


def subject_of(parts: Mapping[str, Any], keys: tuple[str | None, str | None]) -> Subject:
    """The parts, checked and brought into one form.

    Raises:
        UserError: One that is not what its name says.
    """
    given = {name: part for name, part in parts.items() if part is not None}
    for name, signature in SIGNATURES.items():
        if name in given and not callable(given[name]):
            raise UserError(f"{name} is a function, {signature}; got {type(given[name]).__name__}")
    if ("save" in given) != ("load" in given):
        raise UserError("save and load go together: saved = save(); load(saved)")
    model = given.get("model")
    if model is not None and not isinstance(model, nn.Module):
        model = model() if callable(model) else model
        if not isinstance(model, nn.Module):
            raise UserError(f"model is a torch.nn.Module, or a function that makes one; got {type(model).__name__}")
        given["model"] = model
    optimiser = given.get("optimiser")
    if optimiser is not None and not hasattr(optimiser, "param_groups"):
        given["optimiser"] = _made(optimiser, model)
    seeds = Kept({name: part for name, part in given.items() if name != "batches"})
    roots = {name: given[name] for name in ROOTS if name in given}
    if "batches" in given:
        roots["batches"] = given["batches"]
        whole = Kept(roots)
        given["batches"] = read_batches(given["batches"], keys)
        whole.restore()
    seeds.restore()
    given.pop("also", None)
    return Subject(**given, roots=roots)


SIGNATURES = {
    "loss": "loss(output, target) or loss(output, target, valid)",
    "predict": "predict(volume) -> mask or probabilities",
    "step": "step(), step(batch) or step(image, target)",
    "save": "save() -> saved, or save(path)",
    "load": "load(saved), or load(path)",
}
ROOTS = ("model", "optimiser", "schedule", "also", "loss", "step", "predict", "save", "load")


def _made(optimiser: Any, model: nn.Module | None) -> Any:
    if not callable(optimiser):
        raise UserError(
            f"optimiser is a torch.optim.Optimizer, or a function that makes one, got {type(optimiser).__name__}"
        )
    needed, names = parameters_of(optimiser)
    if needed == 0 and "params" not in names:
        made = optimiser()
    elif model is None:
        raise UserError("optimiser is a function of the model's parameters: hand over model= as well")
    else:
        made = optimiser(model.parameters())
    if not hasattr(made, "param_groups"):
        raise UserError("optimiser(parameters) returns a torch.optim.Optimizer")
    return made
