"""The audit of any PyTorch code: silent on healthy set-ups, speaks of faults, and leaves no trace."""

import html
import random

import numpy as np
import pytest
import torch
from code_faults import FAULTS, faulty
from code_setups import Net, batches_of, healthy
from torch import nn
from torch.nn import functional as F

import volumen
from volumen.doctor.code.kept import Kept, random_state, same_bits
from volumen.doctor.findings import Severity

QUICK = ("loss", "batches", "model", "optimiser")


def loud(report):
    return [one for one in report.findings if one.severity != Severity.note]


@pytest.mark.parametrize("seed", [3, 10])
def test_nothing_is_said_of_healthy_set_ups(seed):
    trainer, told, words = healthy(seed)
    report = volumen.audit_code(**trainer.parts(), **told)
    assert not loud(report), words
    assert all(one.ran or "not given" in one.done for one in report.checks)


@pytest.mark.parametrize("name", [
    "head_binary", "head_axis", "head_missing", "ignore_term", "ignore_inverted", "detached", "all_flipped", "constant",
    "first_only", "half_optimiser", "batch_train", "lost", "turned_same", "values",
])  # fmt: skip
def test_faults_are_named_first(name):
    parts, codes, words = faulty(name, 5, dims=2)
    if name != "lost":
        parts = {key: value for key, value in parts.items() if key in (*QUICK, "ignore_index", "frozen")}
    found = loud(volumen.audit_code(**parts))
    assert found, words
    assert found[0].code in codes


def test_every_fault_says_which_codes_fit():
    assert all(codes and set(codes) <= {f"P{number}" for number in range(1, 13)} for _, _, codes in FAULTS.values())


@pytest.mark.parametrize("seed", [3, 8])
def test_everything_is_given_back_bit_for_bit(seed):
    trainer, told, _ = healthy(seed)
    trainer.step()
    trainer.model.encoder.eval()
    parts = trainer.parts()
    before, state = Kept(parts).leaves(), random_state()
    gradients = [None if one.grad is None else one.grad.clone() for one in trainer.model.parameters()]
    volumen.audit_code(**parts, **told)
    after = Kept(parts).leaves()
    assert before.keys() == after.keys()
    assert all(same_bits(value, after[path]) for path, value in before.items())
    assert same_bits(state, random_state())
    for one, gradient in zip(trainer.model.parameters(), gradients, strict=True):
        assert (one.grad is None) if gradient is None else same_bits(one.grad, gradient)


def test_what_is_kept_is_given_back_whatever_holds_it():
    count, numbers = [0], np.arange(4.0)
    generator, table = np.random.default_rng(0), {"best": 1.0, "epochs": [1, 2]}
    layer = nn.Linear(2, 2)

    def work():
        count[0] += 1
        numbers[:] += generator.random(4)
        table["best"] += random.random() + torch.rand(1).item()
        table["epochs"].append(3)
        table["new"] = layer
        layer.requires_grad_(False)
        with torch.no_grad():
            layer.weight.mul_(2)

    kept = Kept({"work": work})
    before = kept.leaves()
    work()
    first = dict(table), numbers.copy()
    kept.restore()
    assert all(
        same_bits(one, other)
        for one, other in zip(before.values(), Kept({"work": work}).leaves().values(), strict=True)
    )
    work()
    assert table["best"] == first[0]["best"]
    np.testing.assert_array_equal(numbers, first[1])


@pytest.mark.parametrize(("wants", "loss"), [
    ("logits", F.binary_cross_entropy_with_logits),
    ("logits", lambda z, y: F.binary_cross_entropy_with_logits(3 * z, y)),
    ("probabilities", F.binary_cross_entropy),
    ("probabilities", lambda p, y: ((p - y) ** 2).mean()),
    ("probabilities", lambda p, y: 1 - 2 * (p * y).sum() / (p.sum() + y.sum())),
    ("probabilities", lambda p, y: 1 - 2 * (p.clamp(0, 1) * y).sum() / (p.clamp(0, 1).sum() + y.sum())),
])  # fmt: skip
def test_what_a_loss_wants_is_measured(wants, loss):
    model = nn.Sequential(nn.Conv2d(1, 1, 1), *([nn.Sigmoid()] if wants == "probabilities" else []))
    batches = batches_of("binary", 2, 32, 2, 0)
    assert not loud(volumen.audit_code(model=model, loss=loss, batches=batches))
    wrong = model[0] if wants == "probabilities" else nn.Sequential(model, nn.Sigmoid())
    found = loud(volumen.audit_code(model=wrong, loss=loss, batches=batches))
    assert found
    assert found[0].where == "model"


def test_a_patch_from_elsewhere_than_its_label():
    random_numbers = np.random.default_rng(0)
    label = np.zeros((40, 48), np.int64)
    label[8:11], label[30:33] = 1, 1
    image = label + 0.3 * random_numbers.normal(size=label.shape)
    window = np.s_[4:36, 10:42]
    given = {"raw": (image, label), "classes": 2}
    right = torch.from_numpy(image[window].T.copy())[None, None].float()
    target = torch.from_numpy(label[window].T.copy())[None]
    assert not [one for one in volumen.audit_code(batches=[(right, target)], **given).findings if "come" in one.title]
    found = volumen.audit_code(batches=[(right, target.flip(-1))], **given).findings
    assert any("does not come from" in one.title for one in found) or found[0].code == "P7"


@pytest.mark.parametrize(("parts", "words"), [
    ({"loss": 3}, r"loss\(output, target\)"),
    ({"model": 3}, "torch.nn.Module"),
    ({"save": lambda: 1}, "go together"),
    ({"batches": [3]}, r"\(image, target\)"),
    ({"batches": [{"a": torch.zeros(1, 1, 8, 8)}]}, "image_key="),
    ({"batches": []}, "nothing"),
    ({"optimiser": lambda parameters: None}, "hand over model="),
    ({"loss": lambda output: output.mean()}, r"loss\(output, target\)"),
    ({"predict": lambda volume: volume, "volume": None}, "volume="),
])  # fmt: skip
def test_what_cannot_be_called_is_told_with_the_form_that_is_expected(parts, words):
    with pytest.raises(volumen.UserError, match=words):
        volumen.audit_code(**parts)


def test_a_report_prints_its_findings_and_what_was_done(tmp_path):
    report = volumen.audit_code(loss=lambda output, target: output.mean() + 0 * target.mean(), classes=1)
    assert report.stops
    text = str(report)
    assert report.findings[0].title in text
    assert "Left out" in text
    plain = report.to_dict()
    assert plain["findings"][0]["severity"] == "stop"
    assert len(plain["checks"]) == len(report.checks)
    page = report.write_page(tmp_path / "a.html").read_text(encoding="utf-8")
    assert report.findings[0].title in html.unescape(page)


def test_mappings_and_functions_are_batches():
    image, label = batches_of("classes", 2, 32, 2, 0)[0]
    model = Net(2, classes=2)
    for batches in ([{"image": image, "label": label}], lambda: (image, label), lambda: iter([(image, label)])):
        assert not loud(volumen.audit_code(model=model, loss=F.cross_entropy, batches=batches))
