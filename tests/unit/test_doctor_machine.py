"""P12: versions by name, and a network that computes something else in the run's precision is found."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.doctor import machine
from volumen.doctor.context import Parts, open_context
from volumen.doctor.findings import Severity
from volumen.doctor.machine import Machine, check_machine, compare, known_faults, too_small, wrong_results
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.runtime import Precision
from volumen.training.state import fresh_state

CPU = torch.device("cpu")
HERE = Machine("2.11.0", 92000, "a card")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    write_phantom_dataset(folder / "raw", volumes=2, shape=(40, 40, 40), scrolls=1, seed=5)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    return folder / "prepared"


def context_of(prepared, model, parts=None, batch=2):
    settings = [f"data.dataset={prepared}", f"model={model}", "data.patch=[32, 32, 32]", f"data.batch={batch}"]
    context = open_context(load_config("preset:default", settings))
    if parts is not None:
        object.__setattr__(context, "parts", parts)
    return context


SMALL = ["{kind: unet, filters: 4, depth: 2}", "{kind: resenc, size: S}"]


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_machine_that_rounds_is_right(prepared, model, precision) -> None:
    context = context_of(prepared, model)
    before = torch.get_rng_state()
    found = compare(context, CPU, Precision(precision, "cpu"))
    assert torch.equal(before, torch.get_rng_state())
    assert [one.is_right for one in found] == [True, True]
    assert all(one.logits < 0.1 and one.gradient < 0.1 for one in found)
    assert list(wrong_results(context, found, HERE, Precision(precision, "cpu"))) == []


class _Wrong(nn.Module):
    """A network whose convolutions are wrong in half precision, beyond so many voxels."""

    def __init__(self, inside: nn.Module, voxels: int, backward: bool) -> None:
        super().__init__()
        self.inside, self.voxels, self.backward = inside, voxels, backward
        self.divisor = inside.divisor

    def forward(self, image):
        logits = self.inside(image)
        if torch.is_autocast_enabled("cpu") and image.numel() > self.voxels:
            wrong = logits.flip(2)
            return logits + (wrong - wrong.detach()) * 3 if self.backward else wrong
        return logits


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("voxels", "wrong"), [(0, 2), (32**3, 1), (2 * 32**3, 0)])
def test_one_that_computes_something_else_is_stopped(prepared, backward, voxels, wrong) -> None:
    """In values or in gradients alone, of all convolutions or of large ones alone."""

    def state(*arguments, **options):
        made = fresh_state(*arguments, **options)
        made.model = _Wrong(made.model, voxels, backward)
        return made

    context = context_of(prepared, SMALL[0], Parts(state=state))
    found = compare(context, CPU, Precision("bf16", "cpu"))
    assert sum(not one.is_right for one in found) == wrong
    findings = list(wrong_results(context, found, HERE, Precision("bf16", "cpu")))
    assert [(one.code, one.severity) for one in findings] == ([("P12", Severity.stop)] if wrong else [])


@pytest.mark.parametrize("most", [1, 2, 5])
def test_what_does_not_fit_is_compared_on_less(prepared, monkeypatch, most) -> None:
    whole, tried = machine._pass, []

    def crowded(model, image, *arguments):
        tried.append(len(image))
        if len(image) > most:
            raise torch.OutOfMemoryError
        return whole(model, image, *arguments)

    monkeypatch.setattr(machine, "_pass", crowded)
    found = compare(context_of(prepared, SMALL[0], batch=5), CPU, Precision("fp32", "cpu"))
    assert len(found) == 2
    assert f"batch of {tried[-1]}" in found[1].what
    assert tried[-1] == {1: 1, 2: 2, 5: 5}[most]


@given(
    st.tuples(st.integers(8, 10), st.integers(0, 30), st.integers(0, 9)),
    st.sampled_from(["2.9.0+cu128", "2.9.1", "2.10.0", "2.11.0+cu130"]),
    st.sampled_from(["fp32", "bf16", "fp16"]),
)
def test_versions_are_named_where_they_are_known_to_be_wrong(cudnn, torch_version, precision) -> None:
    major, minor, patch = cudnn
    found = list(
        known_faults(Machine(torch_version, 10000 * major + 100 * minor + patch, "c"), Precision(precision, "cuda"))
    )
    titles = " ".join(one.title for one in found)
    assert ("PyTorch 2.9" in titles) == torch_version.startswith("2.9")
    assert ("bf16" in titles) == (precision == "bf16" and major == 9 and 8 <= minor <= 10)
    tf32 = precision == "fp32" and (9, 10, 2) <= cudnn < (9, 15, 0)
    assert ("TF32" in titles) == tf32
    assert all(one.severity is Severity.warn and one.remedies for one in found)


def test_no_cudnn_is_no_version_and_a_run_for_a_processor_is_noted(prepared) -> None:
    assert list(known_faults(Machine("2.11.0", None, "c"), Precision("bf16", "cuda"))) == []
    (note,) = too_small(context_of(prepared, "{kind: unet, filters: 8, depth: 2}"))
    assert note.severity is Severity.note
    assert "preset:gpu" in note.title
    assert list(too_small(context_of(prepared, "{kind: unet, filters: 16, depth: 2}"))) == []
    assert list(too_small(context_of(prepared, SMALL[1]))) == []


def test_without_a_card_it_says_nothing(prepared) -> None:
    assert list(check_machine(context_of(prepared, SMALL[0]))) == []
