"""The data of a run, found again: the very data set that it was trained on, and the volumes that it never saw.

Every checkpoint names both. Whatever became of folders and fold files since, nothing is scored on volumes that the run
was trained on without a word.
"""

from pathlib import Path

from volumen.data.dataset import PreparedDataset
from volumen.data.folds import Fold, load_folds
from volumen.errors import UserError
from volumen.training.checkpoint import Trained


def open_data(trained: Trained, run: Path, dataset: Path | None = None) -> PreparedDataset:
    """The prepared data set that a run was trained on.

    Args:
        trained: The run.
        run: Its folder, for errors.
        dataset: Where the data set is, if it has moved since the training.

    Raises:
        UserError: It is not there, or another one is.
    """
    place = dataset or Path(trained.config.data.dataset)
    if dataset is None and not place.exists():
        raise UserError(f"{place}, the data set that {run} was trained on, is gone: name its new place with --dataset")
    prepared = PreparedDataset.open(place)
    if prepared.identity != trained.data.dataset:
        raise UserError(
            f"{prepared.root} is not the data set that {run} was trained on (identity {prepared.identity[:12]}, the "
            f"run's is {trained.data.dataset[:12]}): its images, labels or statistics are others; put the data set "
            "back, name the right one with --dataset, or predict the volumes and `volumen score` the masks"
        )
    return prepared


def own_fold(trained: Trained) -> Fold:
    """What the run was trained on and what it held out, by its own word."""
    return Fold(trained.data.train, trained.data.validation)


def changed_folds(trained: Trained, prepared: PreparedDataset) -> tuple[str, ...]:
    """A sentence where the folds file does not say what the run was trained on any more."""
    try:
        now = load_folds(trained.config.data.folds, prepared).fold(trained.data.fold)
    except UserError as error:
        return (f"The run's folds are not at hand ({error}); the volumes are those that the run itself names.",)
    if now == own_fold(trained):
        return ()
    return (
        f"The folds file divides otherwise since the run was trained: fold {trained.data.fold} holds out "
        f"{', '.join(now.validation)} now; the run held out {', '.join(trained.data.validation)}.",
    )
