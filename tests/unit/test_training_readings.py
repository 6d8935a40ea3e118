"""Numbers that are read late change nothing: weights, moments, averages, records and errors are those of reading each
step, and a step asks the device for none.
"""

import copy
import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import volumen.config
from volumen.config.load import load_config
from volumen.config.optimisation import AdamW, Sgd, WeightAverage
from volumen.doctor.benchmark.injections import Injection, Injector
from volumen.losses import TERMS, CompositeLoss
from volumen.losses.terms import SoftDice
from volumen.models import build_model
from volumen.runtime import Precision
from volumen.training.advance import advance, read_back
from volumen.training.averaging import MovingAverage
from volumen.training.distributed import ALONE
from volumen.training.listener import BaseListener, Listeners
from volumen.training.moving import load_optimiser
from volumen.training.objective import build_objective
from volumen.training.readings import MOST_STEPS, Readings
from volumen.training.schedule import LearningRate
from volumen.training.state import TrainingState, build_optimiser
from volumen.training.step import Guard, NonFiniteError, StepResult, _differentiate, launch_step

CPU = torch.device("cpu")
FP32 = Precision("fp32", "cpu")
STEPS = 12
PRESETS = sorted(path.stem for path in (Path(volumen.config.__file__).parent / "presets").glob("*.yaml"))
CONFIG = load_config("preset:default", ["data.dataset=nowhere"]).config


@dataclass(frozen=True, kw_only=True)
class Breaks(SoftDice):
    """A term that is NaN at one step."""

    at: int
    calls: list[int]

    def compute(self, inputs):
        self.calls.append(0)
        return super().compute(inputs) * (math.nan if len(self.calls) == self.at + 1 else 1.0)


class Gradient:
    """A hook by which a parameter's gradient is not finite at one step."""

    def __init__(self, at: int, value: float) -> None:
        self.at, self.value, self.calls = at, value, 0

    def __call__(self, gradient):
        self.calls += 1
        broken = gradient.clone()
        broken.view(-1)[0] = self.value
        return broken if self.calls == self.at + 1 else gradient


def batches():
    generator = torch.Generator().manual_seed(3)
    made = []
    for number in range(STEPS):
        target = (torch.rand(2, 6, 6, 6, generator=generator) > 0.7).to(torch.uint8)
        image = target[:, None].float() + torch.randn(2, 1, 6, 6, 6, generator=generator)
        meta = {"case": torch.tensor([number, number + 1]), "centred": torch.tensor([True, False])}
        made.append({"image": image, "target": target, "valid": torch.rand(target.shape) > -1, "meta": meta})
    return made


def session_of(optimiser, average, **reading):
    """A session of a small network with running statistics, whose optimiser is a fused one."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.LeakyReLU(), nn.Conv3d(2, 1, 1))
    fused = build_optimiser(model, optimiser, fused=True)
    state = TrainingState(
        config=CONFIG, data=None, model=model, optimiser=fused,
        rate=LearningRate(fused, 0.05, CONFIG.schedule, None, STEPS),
        average=MovingAverage(model, WeightAverage(decay=0.9)) if average else None,
        swa=None, scaler=None, planned_steps=STEPS, steps_per_epoch=STEPS,
    )  # fmt: skip
    shown = []
    listener = SimpleNamespace(stepped=lambda state, result, of: shown.append((copy.copy(state.cursor), result)))
    return SimpleNamespace(
        state=state, precision=FP32, device=CPU, forward=model, recorder=None, listener=listener, shown=shown,
        readings=Readings(model, CPU, **reading), loader=SimpleNamespace(batches_per_epoch=STEPS),
        probe=SimpleNamespace(is_looking=False), world=ALONE,
        named=lambda batch: {**batch, "case": [f"case{one}" for one in batch["meta"]["case"].tolist()]},
    )  # fmt: skip


def trained(session, plant, *, each):
    """Train, reading each step or only when it is due; the error, if there was one."""
    kind, at, where = plant
    terms = {"soft_dice": (0.6, TERMS["soft_dice"]()), "cross_entropy": (0.4, TERMS["cross_entropy"]())}
    if kind == "term":
        terms["focal"] = (0.5, Breaks(at=at, calls=[]))
    if kind in ("nan", "inf"):
        parameters = list(session.state.model.parameters())
        parameters[where % len(parameters)].register_hook(Gradient(at, float(kind)))
    made = batches()
    if kind == "case":
        made[at]["image"][where % 2, 0, 1, 2, 3] = math.nan
    objective = CompositeLoss(terms)
    session.state.model.train()
    try:
        for number, batch in enumerate(made):
            advance(session, objective, batch)
            read_back(session, wait=each or number == STEPS - 1)
    except NonFiniteError as error:
        return str(error)
    return None


def same(left, right, close=()):
    """The whole state, to the last bit but for what is `close`."""
    one, other = (
        {
            "model": each.model.state_dict(),
            "optimiser": each.optimiser.state_dict(),
            "average": None if each.average is None else each.average.state_dict(),
            "rest": (each.cursor, each.rate.value, each.totals),
        }
        for each in (left.state, right.state)
    )
    for part in one:
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if part in close else {"rtol": 0, "atol": 0}
        if part == "rest":
            assert one[part] == other[part]
        elif one[part] is not None:
            torch.testing.assert_close(one[part], other[part], equal_nan=True, **tolerance)


plants = st.tuples(
    st.sampled_from(["none", "term", "case", "nan", "inf"]), st.integers(0, STEPS - 1), st.integers(0, 9)
)
optimisers = st.sampled_from([Sgd(learning_rate=0.05), AdamW(), Sgd(momentum=0.0, nesterov=False)])


@settings(max_examples=15, deadline=None)
@given(plant=plants, every=st.integers(1, 5), optimiser=optimisers, average=st.booleans())
def test_a_late_reading_ends_as_reading_each_step_does(plant, every, optimiser, average):
    late, each, at_once = (
        session_of(optimiser, average, **reading) for reading in ({"every": every}, {"every": 1}, {"at_once": True})
    )
    errors = [trained(late, plant, each=False), trained(each, plant, each=True), trained(at_once, plant, each=True)]
    assert errors[0] == errors[1] == errors[2]
    assert (errors[0] is None) == (plant[0] == "none")
    if plant[0] != "none":
        assert f"case{plant[1]}, case{plant[1] + 1}" in errors[0]
    same(late, each)
    assert late.shown == each.shown == at_once.shown
    assert [cursor.step for cursor, _ in late.shown] == list(range(1, len(late.shown) + 1))
    if plant[0] != "none" and plant[1] == 0:  # moments that never began are zeros where a guard leaves steps out
        assert not at_once.state.optimiser.state_dict()["state"]
        assert not any(bool(one.any()) for each in late.state.optimiser.state.values() for one in each.values())
        late.state.optimiser.state.clear()
    same(late, at_once, close=("average",))


@given(every=st.integers(1, 6), steps=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_a_window_is_read_when_the_next_is_full_and_all_on_demand(every, steps):
    readings, read = Readings(nn.Linear(1, 1), CPU, every=every), []
    launched = launch(nn.Conv3d(1, 1, 1), CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]())}))
    for number in range(steps):
        readings.add(number, launched)
        read += [one for one, _ in readings.read(wait=False)]
        assert len(read) == max((number + 1) // every - 1, 0) * every
    read += [one for one, _ in readings.read(wait=True)]
    assert read == list(range(steps))


def launch(model, objective, optimiser=None, guard=None):
    optimiser = optimiser or build_optimiser(model, AdamW(), fused=True)
    return launch_step(
        model, objective, optimiser, batches()[0], precision=FP32, device=CPU, gradient_clip=1.0,
        guard=guard or Guard(model, CPU),
    )  # fmt: skip


def test_steps_are_read_at_once_on_a_cpu_and_for_whoever_acts_between_them():
    model = nn.Linear(1, 1)
    assert Readings(model, CPU).guard is None
    assert Readings(model, CPU, at_once=True, every=4).guard is None
    assert 1 < MOST_STEPS <= 16


@pytest.mark.parametrize("acts", [(), (False,), (False, True), (True,)])
def test_who_acts_between_steps_says_so_through_all_listeners(acts):
    each = [Injector(Injection(), 0.5, 0) if one else BaseListener() for one in acts]
    assert Listeners(each).acts_between_steps == any(acts)


class Waits(TorchDispatchMode):
    """Fails where the host would wait for an accelerator."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.NAMES, f"{name} waits for the device"
        indices = args[1] if name.startswith("index") and len(args) > 1 and isinstance(args[1], list | tuple) else ()
        assert not any(one is not None and one.dtype == torch.bool for one in indices), "a mask as an index waits"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings_of", [Sgd(), AdamW()], ids=["sgd", "adamw"])
def test_an_update_waits_for_nothing(settings_of):
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Conv3d(2, 1, 1))
    optimiser, guard = build_optimiser(model, settings_of, fused=True), Guard(model, CPU)
    average, readings = MovingAverage(model, WeightAverage()), Readings(model, CPU, every=5)

    class Plain:
        requires = ()

        def __call__(self, logits, target, valid, *, precomputed):
            total = (logits[:, 0] - target).square().mean()
            return SimpleNamespace(total=total, raw={"square": total}, weighted={"square": total})

    with Waits():
        for number in range(3):
            readings.add(number, launch(model, Plain(), optimiser, guard))
            average.update(model, guard.raised)
            assert list(readings.read(wait=False)) == []
    with pytest.raises(AssertionError, match="waits"), Waits():
        launch(model, Plain(), optimiser, guard).numbers[0].item()


def meta_step(model, objective, side, monkeypatch):
    """Forward, loss and backward where tensors have no values, so that none can be asked for."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    meta, shape = torch.device("meta"), (2, side, side, side)
    byte = torch.zeros(shape, dtype=torch.uint8, device=meta)
    batch = {"image": torch.zeros(2, 1, *shape[1:], device=meta), "target": byte, "valid": byte == 0}
    batch |= dict.fromkeys(objective.requires, byte)
    model = model.to(meta)
    with Waits():
        launched, norm = _differentiate(
            model, model, objective, torch.optim.SGD(model.parameters()), batch, FP32, meta, 1.0, None
        )
    assert launched.numbers.device == norm.device == meta
    assert set(launched.terms) == set(objective.terms)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("weights", [{}, {"background_weight": 0.5, "surface_weight": 2.0}], ids=["plain", "weighted"])
def test_no_term_asks_the_device_for_a_value(name, weights, monkeypatch):
    weighs = hasattr(TERMS[name], "background_weight")
    term = TERMS[name](**weights) if weighs else TERMS[name]()
    meta_step(nn.Conv3d(1, 1, 1), CompositeLoss({name: (0.5, term)}), 16, monkeypatch)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_asks_the_device_for_a_value(preset, monkeypatch):
    config = load_config(f"preset:{preset}", ["data.dataset=nowhere"]).config
    with torch.device("meta"):
        model = build_model(config.model)
    for epoch in (0, *(phase.start_epoch for phase in config.loss.curriculum)):
        meta_step(model, build_objective(config.loss, epoch), 2 * config.divisor, monkeypatch)


@pytest.mark.parametrize("settings_of", [Sgd(), AdamW()], ids=["sgd", "adamw"])
@pytest.mark.parametrize("fused", [True, False])
def test_moments_go_from_one_kind_of_optimiser_to_the_other(settings_of, fused):
    torch.manual_seed(0)
    model = nn.Conv3d(1, 1, 1)
    objective = CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]())})
    source = build_optimiser(model, settings_of, fused=True)
    launch(model, objective, source)
    other = build_optimiser(model, settings_of, fused=fused)
    load_optimiser(other, copy.deepcopy(source.state_dict()))
    assert bool(other.param_groups[0]["fused"]) == fused
    torch.testing.assert_close(other.state_dict()["state"], source.state_dict()["state"], rtol=0, atol=0)
    other.step()
    assert all(bool(torch.isfinite(one).all()) for one in model.parameters())


@pytest.mark.parametrize("settings_of", [Sgd(), AdamW()], ids=["sgd", "adamw"])
def test_moments_of_another_layout_take_that_of_their_weights(settings_of):
    torch.manual_seed(0)
    objective = CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]())})
    contiguous = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 1, 3, padding=1))
    last = copy.deepcopy(contiguous).to(memory_format=torch.channels_last_3d)
    source, other = (build_optimiser(model, settings_of, fused=True) for model in (contiguous, last))
    launch(contiguous, objective, source)
    load_optimiser(other, copy.deepcopy(source.state_dict()))
    for parameter, moments in other.state.items():
        assert all(one.stride() == parameter.stride() for one in moments.values() if one.ndim == parameter.ndim > 0)
    torch.testing.assert_close(other.state_dict()["state"], source.state_dict()["state"], rtol=0, atol=0)


def test_a_result_tells_counts_to_the_last_voxel():
    many = 2**31 - 1
    launched = launch(nn.Conv3d(1, 1, 1), CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]())}))
    assert launched.numbers.dtype == torch.float64
    numbers = [*launched.numbers.tolist()[:-3], many, many - 1, many - 2]
    result = launched.result(numbers)
    assert isinstance(result, StepResult)
    assert (result.predicted, result.true, result.valid) == (many, many - 1, many - 2)
