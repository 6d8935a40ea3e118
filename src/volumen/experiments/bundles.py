"""From trained runs to a bundle."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from volumen.config.compare import diff_configs
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.experiments.out_of_fold import Opened, RunWeights, open_sources
from volumen.inference.bundle import Bundle, Member, write_bundle
from volumen.inference.ensemble import Mean, check_weights
from volumen.system.output import counted
from volumen.system.places import writable_file

HOW_TO_PREDICT = ("inference", "postprocessing")


def bundle_runs(
    runs: Sequence[RunWeights],
    out: Path,
    *,
    shares: Sequence[float] | None = None,
    mean: Mean = "probability",
    overrides: Sequence[str] = (),
    dataset: Path | None = None,
    opened: Sequence[Opened] | None = None,
) -> Bundle:
    """Write the networks of runs into one file with all that a prediction needs.

    Args:
        runs: Weights of runs; folds of one configuration, or different ones.
        out: The bundle.
        shares: Weight of each in the mean; all alike by default.
        mean: Of probabilities or of logits.
        overrides: `key=value` of prediction, such as a tuned post-processing, for all of them.
        dataset: Where the data set is, if it has moved since the trainings; the labels' meanings are taken from it.
        opened: The runs, where somebody has read them already.

    Raises:
        UserError: A run or checkpoint that does not exist, differing ways to predict that no override settles, label
            meanings that differ, a damaged data set, or a place that cannot be written to.
    """
    writable_file(out)
    if shares is not None and len(shares) != len(runs):
        raise UserError(f"{counted(len(runs), 'run needs', 'runs need')} as many weights, got {len(shares)}")
    if shares is not None:
        check_weights(shares)
    opened = open_sources(runs, dataset) if opened is None else opened
    members, labels = [], []
    for number, one in enumerate(opened):
        trained = one.trained.overridden(overrides, one.source.run)
        share = 1.0 / len(runs) if shares is None else shares[number]
        name = f"{one.source.run.name} ({one.source.which})"
        members.append(Member(name, trained.config, dict(trained.model.state_dict()), share))
        labels.append(one.run.labels(trained))
    known = [meaning for meaning in labels if meaning]
    if any(meaning != known[0] for meaning in known):
        raise UserError(
            "the runs were trained on data sets whose label values mean different things: bundle them apart"
        )
    config = members[0].config if members else Config.model_construct()
    refuse_different({member.name: member.config for member in members})
    return write_bundle(out, members, mean=mean, config=config, labels=known[0] if known else {})


def refuse_different(configs: Mapping[str, Config]) -> None:
    """Refuse members that would predict in different ways, which the bundle's one way would silently change.

    Args:
        configs: Of the members, by their names.

    Raises:
        UserError: They do; names the first difference and how to settle it.
    """
    for (first, config), (name, other) in product(list(configs.items())[:1], configs.items()):
        if other.tile != config.tile:
            raise UserError(
                f"{first} and {name} predict by different tiles, {list(config.tile)} and "
                f"{list(other.tile)}: settle it with -o 'inference.tile={list(config.tile)}'"
            )
        differing = [one for one in diff_configs(config, other) if one.key.split(".")[0] in HOW_TO_PREDICT]
        if differing:
            keys = ", ".join(f"{one.key} ({one.left}, {one.right})" for one in differing)
            raise UserError(f"{first} and {name} predict differently: {keys}; settle it with -o KEY=VALUE")
