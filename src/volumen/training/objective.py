"""The objective of an epoch: the configured terms with the weights that hold then."""

from collections.abc import Mapping

from volumen.config.loss import ClassWeights, Loss, Phase, Term
from volumen.losses import TERMS, CompositeLoss

CLASS_WEIGHTED = ("cross_entropy", "focal")


def phase_at(loss: Loss, epoch: int) -> Phase | None:
    """The curriculum phase of an epoch (from 0); None before the first one."""
    started = [phase for phase in loss.curriculum if phase.start_epoch <= epoch]
    return started[-1] if started else None


UNCHANGED: Mapping[str, float] = {}


def weights_at(loss: Loss, epoch: int, changed: Mapping[str, float] = UNCHANGED) -> dict[str, float]:
    """The weight of every configured term in an epoch (from 0), `changed` ones in place of the configured."""
    phase = phase_at(loss, epoch)
    weights = {
        name: term.weight if phase is None else phase.weights.get(name, 0.0)
        for name, term in loss.terms.present().items()
    }
    return {**weights, **changed}


def build_objective(loss: Loss, epoch: int, changed: Mapping[str, float] = UNCHANGED) -> CompositeLoss:
    """The composite loss of an epoch (from 0), with `changed` weights of terms in place of the configured ones.

    Raises:
        UserError: No term has a weight above 0.
    """
    weights = weights_at(loss, epoch, changed)
    terms = loss.terms.present()
    return CompositeLoss(
        {name: (weights[name], TERMS[name](**_arguments(name, terms[name], loss.class_weights))) for name in terms}
    )


def precomputed_targets(loss: Loss) -> tuple[str, ...]:
    """Names of the targets that any phase's terms want from the loader's workers."""
    epochs = [0, *(phase.start_epoch for phase in loss.curriculum)]
    return tuple(sorted({name for epoch in epochs for name in build_objective(loss, epoch).requires}))


def _arguments(name: str, term: Term, class_weights: ClassWeights) -> dict[str, float | int | bool | None]:
    arguments = term.model_dump(exclude={"weight"})
    if name in CLASS_WEIGHTED and class_weights.enabled:
        arguments |= {"background_weight": class_weights.background, "surface_weight": class_weights.surface}
    return arguments
