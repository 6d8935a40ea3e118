"""A tile that no memory holds is refused before it exists, and the one that is proposed fits."""

import math
import re
import resource

import pytest
import torch

from volumen.config.load import load_config, override_config
from volumen.errors import UserError
from volumen.inference import tile_memory
from volumen.inference.predictor import Predictor
from volumen.inference.recipe import Recipe
from volumen.inference.tile_memory import bytes_of_tile, check_tile
from volumen.models import build_model
from volumen.runtime import Precision

MODELS = ("{kind: unet, filters: 4, depth: 2}", "{kind: resenc, size: S}", "{kind: monai, name: SegResNet}")


def predictor(settings: str, tile: tuple[int, int, int] = (32, 32, 32), precision: str = "fp32") -> Predictor:
    if "monai" in settings:
        pytest.importorskip("monai.networks.nets", reason="the extra monai is not installed")
    config = load_config("preset:default", [f"model={settings}"]).config
    return Predictor(
        build_model(config.model).eval(), tile=tile, overlap=0.0, device="cpu", precision=Precision(precision, "cpu")
    )


@pytest.mark.parametrize("settings", MODELS)
def test_the_memory_of_a_tile_grows_with_its_voxels_and_with_nothing_else(settings: str) -> None:
    one = predictor(settings)
    small, large = bytes_of_tile(one, (64, 64, 64)), bytes_of_tile(one, (64, 128, 128))
    assert large / small == pytest.approx(4, rel=0.05)
    assert small > 2 * 4 * 64**3  # more than goes in and comes out
    assert bytes_of_tile(predictor(settings, precision="bf16"), (64, 64, 64)) == pytest.approx(small / 2, rel=0.05)
    assert all(not parameter.is_meta for parameter in one.model.parameters())


@pytest.mark.parametrize("settings", MODELS)
def test_what_does_not_fit_is_refused_and_what_is_proposed_fits(settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 200_000_000
    monkeypatch.setattr(tile_memory, "available_bytes", lambda: room)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for tile in ((4096, 4096, 4096), (10**9 * 16, 16, 16), (160, 512, 512)):
        one = predictor(settings, tile)
        with pytest.raises(UserError, match="the largest that fits is") as caught:
            check_tile(one)
        found = re.search(r"fits is (\d+),(\d+),(\d+)", str(caught.value))
        assert found is not None
        z, y, x = (int(side) for side in found.groups())
        assert all(side <= asked for side, asked in zip((z, y, x), tile, strict=True))
        check_tile(predictor(settings, (z, y, x)))
        assert bytes_of_tile(one, (z, y, x)) > room / 20
        with pytest.raises(UserError, match="for each of 1000 processes"):
            check_tile(one, processes=1000)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 300e6


def test_a_network_that_is_not_followed_has_its_input_and_output(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * float(images.max().item())

    one = Predictor(Strange(), tile=(64, 64, 64), overlap=0.0, device="cpu", precision=Precision("fp32", "cpu"))
    assert bytes_of_tile(one, (64, 64, 64)) == 2 * 4 * 64**3
    monkeypatch.setattr(tile_memory, "available_bytes", lambda: 10**6)
    with pytest.raises(UserError, match="the largest that fits"):
        check_tile(one)


def test_a_configured_tile_is_checked_where_predictors_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(
        "preset:default", ["model.filters=2", "model.depth=1", "inference.tile=[1024, 1024, 1024]", "device=cpu"]
    ).config
    network = build_model(config.model)
    monkeypatch.setattr(tile_memory, "available_bytes", lambda: 10**10)
    with pytest.raises(UserError, match=re.escape("[1024, 1024, 1024]")):
        Recipe.of(network, config)
    small = override_config(config, ["inference.tile=[8, 8, 8]"], "test").config
    assert Recipe.of(network, small).predictor.tile == (8, 8, 8)
    monkeypatch.setattr(tile_memory, "available_bytes", lambda: 2**63)  # a system that does not tell
    assert math.prod(Recipe.of(network, config).predictor.tile) == 1024**3
