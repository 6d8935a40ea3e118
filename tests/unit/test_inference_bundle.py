"""Bundles come back as they were written, and damage is named; ensembles are the mean they claim to be."""

import json
import zipfile

import pytest
import torch

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.data.labels import LabelMeanings
from volumen.errors import UserError
from volumen.inference.bundle import Member, read_bundle, write_bundle
from volumen.inference.ensemble import Ensemble
from volumen.inference.predictor import Predictor
from volumen.models import build_model
from volumen.runtime import Precision
from volumen.system.records import sealed

LABELS = LabelMeanings({0: 0, 1: 1, 2: 2}, empty=(-1200,)).to_json()


def config(*overrides: str) -> Config:
    return load_config(
        "preset:default", ["model.filters=4", "model.depth=2", "data.patch=[16, 16, 16]", *overrides]
    ).config


def member(seed: int, share: float = 0.5, *overrides: str) -> Member:
    torch.manual_seed(seed)
    settings = config(*overrides)
    return Member(f"run{seed}", settings, build_model(settings.model).state_dict(), share)


def test_a_bundle_gives_back_what_was_put_in(tmp_path) -> None:
    path = tmp_path / "new" / "model.volumen"
    write_bundle(path, [member(0, 0.25), member(1, 0.75)], mean="logit", config=config(), labels=LABELS)
    found = read_bundle(path)
    assert [one.name for one in found.members] == ["run0", "run1"]
    assert [one.share for one in found.members] == [0.25, 0.75]
    assert (found.mean, found.labels) == ("logit", LABELS)
    assert found.config == config()
    for name, tensor in member(1).weights.items():
        assert torch.equal(found.members[1].weights[name], tensor)
    image = torch.randn(1, 1, 16, 16, 16)
    alone = [build_model(config().model) for _ in range(2)]
    for number, network in enumerate(alone):
        network.load_state_dict(dict(member(number).weights))
        network.eval()
    with torch.no_grad():
        expected = 0.25 * alone[0](image) + 0.75 * alone[1](image)
        assert torch.allclose(found.model()(image), expected, atol=1e-5)
    assert not list(tmp_path.glob("**/*.tmp*"))


def test_a_bundle_of_one_is_its_network(tmp_path) -> None:
    path = tmp_path / "model.volumen"
    write_bundle(path, [member(0)], mean="probability", config=config(), labels={})
    assert not isinstance(read_bundle(path).model(), Ensemble)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.7, 0.98])
def test_a_flipped_bit_is_named_wherever_it_is(tmp_path, place) -> None:
    path = tmp_path / "model.volumen"
    write_bundle(path, [member(0), member(1)], mean="probability", config=config(), labels=LABELS)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_bundle(path)


def test_what_is_no_bundle_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="there is no bundle"):
        read_bundle(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="is no bundle"):
        read_bundle(tmp_path / "text")
    path = tmp_path / "model.volumen"
    write_bundle(path, [member(0)], mean="probability", config=config(), labels={})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="is no bundle"):
        read_bundle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle.json", json.dumps(sealed({"format": 99, "volumen": "9.9"})))
    with pytest.raises(UserError, match="format 99"):
        read_bundle(path)


def test_different_normalisations_do_not_go_together(tmp_path) -> None:
    members = [member(0), member(1, 0.5, "data.normalisation=percentile")]
    with pytest.raises(UserError, match="normalise their images differently"):
        write_bundle(tmp_path / "x", members, mean="logit", config=config(), labels={})
    assert not (tmp_path / "x").exists()


def test_the_mean_of_probabilities_is_one() -> None:
    networks = [build_model(config().model).eval() for _ in range(3)]
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        each = torch.stack([torch.sigmoid(network(image)) for network in networks])
        found = torch.sigmoid(Ensemble(networks, [1, 1, 2])(image))
    assert torch.allclose(found, (each * torch.tensor([0.25, 0.25, 0.5]).reshape(3, 1, 1, 1, 1, 1)).sum(0), atol=1e-5)


def test_an_ensemble_of_like_networks_is_the_network_and_predicts_volumes() -> None:
    network = build_model(config().model).eval()
    image = torch.randn(24, 20, 28).numpy()
    arguments = {"tile": (16, 16, 16), "overlap": 0.25, "device": "cpu", "precision": Precision("fp32", "cpu")}
    alone = Predictor(network, **arguments).logits(image)
    both = Predictor(Ensemble([network, network]), **arguments).logits(image)
    assert both == pytest.approx(alone, abs=1e-3)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0]])
def test_weights_that_make_no_mean_are_refused(weights) -> None:
    with pytest.raises(UserError):
        Ensemble([torch.nn.Identity(), torch.nn.Identity()], weights)
    with pytest.raises(UserError):
        Ensemble([])


def test_the_divisor_suits_all_members() -> None:
    deep = build_model(config("model.depth=3").model)
    assert Ensemble([build_model(config().model), deep]).divisor == (8, 8, 8)
