"""From a configuration to what the checks look at."""

from volumen.config.load import LoadedConfig, load_config
from volumen.config.loss import ClassWeights
from volumen.config.problems import ConfigError
from volumen.config.schema import Config
from volumen.data.folds import FILE, make_folds
from volumen.doctor.audit.context import Context
from volumen.errors import UserError
from volumen.training.initial import Materials


def open_context(
    loaded: LoadedConfig[Config],
    *,
    as_run: bool = False,
    needs_folds: bool = False,
    materials: Materials | None = None,
) -> Context:
    """The context of a configuration; a data set without folds is divided as `volumen folds` would.

    Args:
        loaded: the configuration and where its values stand.
        needs_folds: refuse a data set without folds, as training does.
        materials: data set, fold and initial weights, where they are opened for the training as well.
        as_run: take the objective of `experiment.ran`, which really ran, in place of the file's.

    Raises:
        UserError: the data set or fold does not exist, or the configuration says nothing of what ran.
    """
    config = loaded.config
    if as_run:
        if config.experiment.ran is None:
            raise UserError(f"{config.name} has no experiment.ran: it ran as its file says, leave --as-run out")
        # What ran knew no class weights: the code read none of them.
        loss = config.loss.model_copy(update={"terms": config.experiment.ran, "class_weights": ClassWeights()})
        config = config.model_copy(update={"loss": loss})
    materials = materials or Materials(config)
    dataset = materials.dataset
    if not needs_folds and config.data.folds is None and not (dataset.root / FILE).is_file():
        fold = make_folds(dataset)[0].fold(config.data.fold)
    else:
        fold = materials.fold
    parent = _parent(loaded)
    return Context(config, dataset, fold.train, fold.validation, loaded.origins, parent=parent, materials=materials)


def _parent(loaded: LoadedConfig[Config]) -> Config | None:
    """What the configuration is based on, where that is a whole configuration by itself."""
    if len(loaded.sources) < 2:
        return None
    try:
        return load_config(loaded.sources[-2]).config
    except ConfigError:
        return None
