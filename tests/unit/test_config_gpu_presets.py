"""The presets for a card: whole, of the size they promise, and consistent with what they are based on."""

import pytest
import torch

from volumen.config.load import load_config
from volumen.models import build_model, count_parameters
from volumen.models.shapes import tensors_of


@pytest.mark.parametrize(("name", "side"), [("gpu", 128), ("gpu_large", 192)])
def test_they_load_with_patches_that_their_network_takes(name, side) -> None:
    config = load_config(f"preset:{name}").config
    assert config.data.patch == (side,) * 3
    with torch.device("meta"):
        model = build_model(config.model)
    assert all(length % unit == 0 for length, unit in zip(config.tile, model.divisor, strict=True))
    assert config.device == config.precision == "auto"
    assert config.training.epochs * config.data.sampling.patches_per_epoch // config.data.batch == 250_000
    assert config.training.epochs % config.training.validate_every_epochs == 0


def test_the_first_has_the_network_of_the_tables() -> None:
    config = load_config("preset:gpu").config
    with torch.device("meta"):
        assert count_parameters(build_model(config.model)) == 22_575_329
    assert len(tensors_of(load_config("preset:gpu_large").config.model)) > len(tensors_of(config.model))


def test_they_learn_what_the_default_learns() -> None:
    default, large = (load_config(f"preset:{name}").config for name in ("default", "gpu_large"))
    assert large.loss == default.loss
    assert large.postprocessing == default.postprocessing
