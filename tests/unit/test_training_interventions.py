"""What is done to a run can be undone and survives a checkpoint, all of it, to the last bit."""

import copy
import io
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.config.intervention import KINDS, described, read_intervention
from volumen.config.load import load_config
from volumen.config.optimisation import Constant
from volumen.errors import DamagedError
from volumen.runs.checkpoints import CheckpointStore
from volumen.runtime import Precision
from volumen.training.interventions import intervene, refusal
from volumen.training.repairs import Changes, Repairs
from volumen.training.state import TrainingState, fresh_state
from volumen.training.step import training_step
from volumen.training.tournament import copied, put_back

CPU, FP32 = torch.device("cpu"), Precision("fp32", "cpu")
CONFIG = load_config(
    "preset:default",
    [
        "data.dataset=nowhere", "model={filters: 2, depth: 1}", "training.average=null", "training.gradient_clip=0.1",
        "loss.terms={soft_dice: {weight: 1.0}, cross_entropy: {weight: 0.5}}", "schedule={kind: plateau, patience: 0}",
    ],
).config  # fmt: skip
DONE = {
    "rate_scale": ["factor=3"],
    "schedule": ["to={kind: constant}"],
    "optimiser": ["to={kind: sgd, learning_rate: 0.1}"],
    "drop_term": ["name=cross_entropy"],
    "weight_term": ["name=soft_dice", "weight=0.25"],
    "gradient_clip": ["value=7"],
    "weight_noise": ["std=0.1"],
    "reload_best": [],
    "start_averaging": ["decay=0.5"],
    "unfreeze": [],
    "reset_layer": ["name='*'"],
    "restore_layer": ["name='*'"],
}
WANTED = {kind: read_intervention(kind, parameters) for kind, parameters in DONE.items()}


def batch(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = (torch.rand(1, 8, 8, 8, generator=generator) > 0.8).to(torch.uint8)
    image = target[:, None].float() + 0.3 * torch.randn(1, 1, 8, 8, 8, generator=generator)
    return {"image": image, "target": target, "valid": torch.ones(1, 8, 8, 8, dtype=torch.bool)}


def state_of() -> TrainingState:
    """With a part that is not trained, so that there is something to unfreeze."""
    state = fresh_state(CONFIG, CPU, FP32, steps_per_epoch=3, prior=0.2)
    next(state.model.parameters()).requires_grad_(False)
    return state


def step(state: TrainingState, seed: int) -> float:
    state.model.train()
    state.rate.apply(state.cursor.step / 3, 10)
    result = training_step(
        state.model, state.objective(), state.optimiser, batch(seed), precision=FP32, device=CPU,
        gradient_clip=state.gradient_clip, scaler=state.scaler,
    )  # fmt: skip
    if state.average is not None:
        state.average.update(state.model)
    state.cursor.step += 1
    return result.total


def same(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return torch.equal(left, right)
    return left == right or (left != left and right != right)


def trained(state: TrainingState) -> list[bool]:
    return [parameter.requires_grad for parameter in state.model.parameters()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CheckpointStore:
    """A best state of two steps."""
    state = state_of()
    for seed in range(2):
        step(state, seed)
    found = CheckpointStore(tmp_path_factory.mktemp("run") / "checkpoints")
    found.save(state.state_dict(), step=2, epoch=0, best=True)
    return found


def test_every_kind_is_tried_here():
    assert DONE.keys() == KINDS.keys()


@settings(max_examples=30)
@given(
    first=st.lists(st.sampled_from(sorted(DONE)), max_size=2), then=st.lists(st.sampled_from(sorted(DONE)), max_size=3)
)
def test_whatever_was_done_since_is_taken_back_and_the_next_step_is_the_same(store, first, then):
    state = state_of()
    for seed in range(3):
        step(state, seed)
    do(state, first, store)
    step(state, 3)
    snapshot, was_trained = copied(state), trained(state)
    expected = [step(state, seed) for seed in (4, 5)]
    put_back(state, snapshot)
    for _ in range(2):  # a snapshot can be put back as often as there are branches
        do(state, then, store)
        step(state, 6)
        put_back(state, snapshot)
    assert same(state.state_dict(), snapshot)
    assert trained(state) == was_trained
    assert [step(state, seed) for seed in (4, 5)] == expected


@settings(max_examples=20)
@given(kinds=st.lists(st.sampled_from(sorted(DONE)), max_size=4))
def test_a_checkpoint_carries_what_was_done(store, kinds):
    state = state_of()
    for seed in range(2):
        step(state, seed)
    do(state, kinds, store)
    step(state, 2)
    stream = io.BytesIO()
    torch.save(state.state_dict(), stream)
    stream.seek(0)
    again = state_of()
    again.load_state_dict(torch.load(stream, weights_only=True), "a checkpoint")
    assert same(again.state_dict(), state.state_dict())
    assert [step(again, seed) for seed in (3, 4)] == [step(state, seed) for seed in (3, 4)]
    assert same(again.state_dict(), state.state_dict())


def do(state: TrainingState, kinds: list[str], store: CheckpointStore) -> None:
    for kind in kinds:
        if not refusal(state, (WANTED[kind],), store):
            intervene(state, (WANTED[kind],), store)


@pytest.mark.parametrize("kind", sorted(set(DONE) - {"unfreeze"}))
def test_each_changes_the_next_step_or_the_rate(store, kind):
    left, right = state_of(), state_of()
    for seed in range(4):
        step(left, seed), step(right, seed)
    left.rate.after_validation(1.0), left.rate.after_validation(2.0)  # a plateau's reduction, which a switch forgets
    right.rate.after_validation(1.0), right.rate.after_validation(2.0)
    do(left, [kind], store)
    step(left, 4), step(right, 4)
    ours, theirs = left.state_dict(), right.state_dict()
    if kind == "start_averaging":
        assert (ours["average"]["count"], theirs["average"], ours["validated_weights"]) == (1, None, "average")
    else:
        assert not same(ours["model"], theirs["model"])


def test_a_rollback_brings_back_objective_and_schedule(store):
    """Rows 14 and 15 of the case study: a rollback that left them would go on from a state that never was."""
    state = state_of()
    step(state, 0)
    do(state, ["drop_term", "schedule", "optimiser", "gradient_clip", "start_averaging", "unfreeze"], store)
    assert [name for name, (weight, _) in state.objective().terms.items() if weight > 0] == ["soft_dice"]
    assert state.gradient_clip == 7
    assert state.rate.rate_at(0.5, 10) == 0.1
    state.watch.best_total = 0.3  # of the other objective
    step(state, 1)
    state.roll_back(store.load_best(pytest.fail), "the best")
    assert state.repairs.changes == Changes()
    assert [name for name, (weight, _) in state.objective().terms.items() if weight > 0] == [
        "soft_dice",
        "cross_entropy",
    ]
    assert isinstance(state.optimiser, torch.optim.AdamW)
    assert state.gradient_clip == 0.1
    assert state.average is None
    assert trained(state)[0] is False
    assert state.watch.best_total == float("inf")
    reference = state_of()
    reference.load_state_dict(store.load_best(pytest.fail), "the best")
    reference.cursor = copy.copy(state.cursor)
    assert step(state, 9) == step(reference, 9)
    assert same(state.state_dict()["model"], reference.state_dict()["model"])


@pytest.mark.parametrize(
    ("kind", "parameters", "reason"),
    [
        ("drop_term", ["name=focal"], "the objective has no term 'focal': it has soft_dice, cross_entropy"),
        ("reset_layer", ["name=nose"], "no parameter is called 'nose'"),
    ],
)
def test_what_a_run_cannot_have_is_refused_and_changes_nothing(store, kind, parameters, reason):
    state = state_of()
    before = copied(state)
    assert reason in refusal(state, (read_intervention(kind, parameters),), store)
    assert same(state.state_dict(), before)


def test_an_objective_keeps_a_term_and_a_second_average_is_refused(store, tmp_path):
    state = state_of()
    do(state, ["drop_term", "start_averaging", "unfreeze"], store)
    assert "positive" in refusal(state, (read_intervention("drop_term", ["name=soft_dice"]),), store)
    assert "already" in refusal(state, (WANTED["start_averaging"],), store)
    assert "already" in refusal(state, (WANTED["unfreeze"],), store)
    assert "no best state yet" in refusal(state, (WANTED["reload_best"],), CheckpointStore(tmp_path))


def test_a_run_that_nothing_was_done_to_has_no_word_of_it_in_its_checkpoint():
    assert "repairs" not in state_of().state_dict()
    assert "branch" not in state_of().state_dict()


def test_damaged_repairs_are_said():
    for written in ("{", json.dumps({"changes": {"weights": {"soft_dice": -1}}}), 3):
        with pytest.raises(DamagedError, match="repairs cannot be read"):
            Repairs.of({"repairs": written}, "a checkpoint")


def test_words():
    assert described([]) == "control"
    assert described([WANTED["reload_best"], WANTED["rate_scale"]]) == "reload_best + rate_scale factor 3"
    assert isinstance(read_intervention("schedule", ["to={kind: constant}"]).to, Constant)
