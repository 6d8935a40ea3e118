"""A run's place in the data where its steps become smaller, since memory ran out."""

from dataclasses import dataclass

from volumen.errors import UserError


@dataclass(frozen=True)
class Place:
    """Steps of a run: done, done in the running epoch, planned in all, and of a whole epoch; and patches a step."""

    step: int
    batch: int
    planned: int
    per_epoch: int
    patches: int


def resized(before: Place, patches: int, per_epoch: int) -> Place:
    """The same place in steps of fewer patches: as many epochs done and left, as many patches of the running one.

    A step that was cut in the middle is done again. Steps only grow in number, so that records keep their order.

    Args:
        before: In steps of `before.patches`.
        patches: Of a step from now on.
        per_epoch: Steps of an epoch from now on.

    Raises:
        UserError: Steps become larger.
    """
    if patches == before.patches:
        return before
    if patches > before.patches:
        raise UserError(
            f"data.batch {before.patches} -> {patches}: a run that is gone on with can only do smaller steps; give "
            f"{before.patches} or less"
        )
    ended = before.batch >= before.per_epoch
    batch = per_epoch if ended else min(before.batch * before.patches // patches, per_epoch)
    grown = per_epoch / before.per_epoch
    epochs = round((before.step - before.batch) * grown)
    left = round((before.planned - (before.step - before.batch)) * grown)
    return Place(epochs + batch, batch, max(epochs + left, epochs + batch), per_epoch, patches)
