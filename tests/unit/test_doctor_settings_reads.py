"""Twins of a configuration note what is read of them and are otherwise as the original."""

import pytest

from volumen.config.dump import config_hash, flat_values
from volumen.config.load import load_config
from volumen.config.loss import Focal
from volumen.config.optimisation import AdamW, Plateau, Polynomial, Sgd
from volumen.config.schema import Config
from volumen.doctor.settings.reads import recorded
from volumen.training.objective import build_objective
from volumen.training.schedule import schedule_factor


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("preset:curriculum").config


def test_a_twin_has_the_classes_and_values_of_the_original(config) -> None:
    twin, _ = recorded(config)
    assert isinstance(twin, Config)
    assert isinstance(twin.schedule, Plateau)
    assert not isinstance(twin.schedule, Polynomial)
    assert isinstance(twin.loss.terms.focal, Focal)
    match twin.optimiser:
        case AdamW():
            raise AssertionError("an Sgd was taken for an AdamW")
        case Sgd(momentum=momentum):
            assert momentum == 0.99
    assert flat_values(twin) == flat_values(config)
    assert config_hash(twin) == config_hash(config)
    assert (twin.divisor, twin.tile) == (config.divisor, config.tile)


def test_only_what_is_taken_counts_as_read(config) -> None:
    twin, reads = recorded(config)
    _ = twin.training.epochs
    _ = twin.training.swa.start_epoch
    assert reads.keys == {"training.epochs", "training.swa.start_epoch"}
    assert reads.has("training.epochs")
    assert not reads.has("training.swa.learning_rate")


def test_a_kind_is_read_with_its_section_and_a_mapping_as_a_whole(config) -> None:
    twin, reads = recorded(config)
    assert not reads.has("schedule.kind")
    assert schedule_factor(twin.schedule, 0.0, 10.0) == 1.0
    assert reads.has("schedule.kind")
    assert not reads.has("schedule.patience")
    assert not reads.has("loss.curriculum.1.weights.focal")
    _ = twin.loss.curriculum[1].weights
    assert reads.has("loss.curriculum.1.weights.focal")
    assert not reads.has("loss.curriculum.0.weights.soft_dice")


def test_a_section_that_is_dumped_passes_its_values_on(config) -> None:
    twin, reads = recorded(config)
    twin.loss.terms.focal.model_dump(exclude={"weight"})
    assert reads.has("loss.terms.focal.gamma")
    assert not reads.has("loss.terms.focal.weight")
    twin.training.model_dump(include={"swa"})
    assert reads.has("training.swa.learning_rate")
    assert not reads.has("training.epochs")


def test_a_record_of_the_whole_configuration_reads_nothing(config) -> None:
    twin, reads = recorded(config)
    twin.model_dump_json()
    config_hash(twin)
    assert not reads.keys


def test_a_changed_copy_goes_on_noting(config) -> None:
    twin, reads = recorded(config)
    copy = twin.data.augmentation.model_copy(update={"rotations": "all"})
    assert copy.rotations == "all"
    assert copy.gamma == (0.7, 1.5)
    assert reads.keys == {"data.augmentation.gamma"}


def test_the_objective_of_an_epoch_reads_the_terms_it_is_made_of(config) -> None:
    twin, reads = recorded(config)
    build_objective(twin.loss, epoch=60)
    for key in ("loss.curriculum.1.weights.focal", "loss.terms.focal.gamma", "loss.class_weights.enabled"):
        assert reads.has(key)
    # The curriculum brings weights of its own from epoch 0 on, and class weights are off.
    for key in ("loss.terms.focal.weight", "loss.class_weights.surface"):
        assert not reads.has(key)


def test_a_value_that_was_put_in_place_of_another_is_not_read(config) -> None:
    twin, reads = recorded(config)
    copy = twin.optimiser.model_copy(update={"momentum": 0.5, "weight_decay": config.optimiser.weight_decay})
    assert (copy.momentum, copy.weight_decay, copy.nesterov) == (0.5, config.optimiser.weight_decay, True)
    assert not reads.has("optimiser.momentum")
    assert reads.has("optimiser.nesterov")
