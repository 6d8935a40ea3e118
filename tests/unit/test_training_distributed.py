"""Ranks: their batch is one batch, their objective one objective, their errors everybody's, their cases all cases."""

import copy
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.ranks import launch
from torch import Tensor, nn

import volumen.config
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.losses import TERMS, CompositeLoss
from volumen.models import build_model
from volumen.models.resenc import ResEncUNet
from volumen.models.unet import UNet
from volumen.runtime import choose_precision
from volumen.system.stopping import StopWanted
from volumen.training import fitting
from volumen.training.advance import _named_by_all
from volumen.training.distributed import ALONE, World, forward_of, joined
from volumen.training.fitting import fitting_batch, with_batch
from volumen.training.objective import build_objective
from volumen.training.pacing import Pace, lengthen
from volumen.training.sharing import my_cases, refuse_unshared
from volumen.training.state import build_optimiser
from volumen.training.step import NonFiniteError, training_step

CPU = torch.device("cpu")
STEPS, BATCH, SIDE = 10, 4, 8
PRESETS = sorted(path.stem for path in (Path(volumen.config.__file__).parent / "presets").glob("*.yaml"))
TOLERANCE = 1e-9
"""Of all parameters together after `STEPS` steps in float64; sums over parts are rounded in another order, and AdamW
divides by gradients near 0."""


def small(preset: str) -> Config:
    """With a rate at which ten steps lead somewhere."""
    overrides = ["model.kind=unet", "model.filters=2", "model.depth=1", "optimiser.learning_rate=0.02"]
    return load_config(f"preset:{preset}", overrides).config


def objectives() -> dict[str, tuple[Config, CompositeLoss]]:
    """Those of every preset in every phase, each once, and all terms together."""
    found = {}
    for name in PRESETS:
        config = small(name)
        for epoch in {0, *(phase.start_epoch for phase in config.loss.curriculum)}:
            objective = build_objective(config.loss, epoch)
            found.setdefault(repr(objective.terms), (config, objective))
    every = CompositeLoss({name: (1.0, term()) for name, term in TERMS.items()})
    return {**found, "every term": (small("default"), every)}


def batches(seed: int) -> list[dict[str, Any]]:
    """Batches some of whose patches are wholly ignored, without surface, or mostly ignored."""
    generator, drawn, made = torch.Generator().manual_seed(seed), random.Random(seed), []
    for _ in range(STEPS):
        shape = (BATCH, SIDE, SIDE, SIDE)
        target = (torch.rand(shape, generator=generator) > 0.7).to(torch.uint8)
        image = target[:, None] + torch.randn((BATCH, 1, SIDE, SIDE, SIDE), generator=generator)
        known = torch.tensor([drawn.choice([0.0, 0.05, 0.9, 1.0]) for _ in range(BATCH)])
        valid = torch.rand(shape, generator=generator) < known[:, None, None, None]
        target[drawn.randrange(BATCH)] = 0
        made.append({"image": image, "target": target, "valid": valid})
    return made


def learned(world: World, config: Config, objective: CompositeLoss, seed: int) -> tuple[Tensor, list[float]]:
    """In float64: parameters and totals of some steps on this rank's part of each batch."""
    torch.manual_seed(seed)
    model = build_model(config.model, prior=0.3).double()
    optimiser = build_optimiser(model, config.optimiser)
    forward, each, totals = forward_of(model, world, leaves_out=False), world.part_of(BATCH), []
    for batch in batches(seed):
        batch["image"] = batch["image"].double()
        part = {name: value[world.rank * each : (world.rank + 1) * each] for name, value in batch.items()}
        with world.whole_batch():
            result = training_step(
                model, objective, optimiser, part, precision=choose_precision("fp32", CPU), device=CPU,
                gradient_clip=config.training.gradient_clip, forward=forward,
            )  # fmt: skip
        totals.append(result.total)
    return nn.utils.parameters_to_vector(model.parameters()).detach(), totals


def all_learned(seed: int) -> dict[str, tuple[Tensor, list[float]]]:
    with joined("cpu") as world:
        return {name: learned(world, *one, seed) for name, one in objectives().items()}


def test_two_ranks_learn_what_one_process_learns_under_every_preset() -> None:
    seed = random.randrange(2**31)
    codes, (first, second) = launch(all_learned, 2, seed)
    assert codes == [0, 0]
    for name, one in objectives().items():
        alone, totals = learned(ALONE, *one, seed)
        assert torch.equal(first[name][0], second[name][0]), (seed, name)
        assert first[name][1] == second[name][1], (seed, name)
        assert first[name][1] == pytest.approx(totals, rel=TOLERANCE, abs=TOLERANCE), (seed, name)
        assert float((first[name][0] - alone).norm() / alone.norm()) < TOLERANCE, (seed, name)


class Torn(Exception):
    """An error that cannot be sent."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def fails(error: Exception) -> Any:
    raise error


def caught(make: Any) -> tuple[str, str]:
    try:
        return "", repr(make())
    except Exception as error:
        return type(error).__name__, str(error)


def told() -> list[Any]:
    with joined("cpu") as world:
        rank = world.rank
        return [
            world.sum(rank, 10**12 + rank),
            world.most(5 - rank),
            world.from_first(lambda: f"of {rank}"),
            world.gather(lambda: rank),
            caught(lambda: world.from_first(lambda: fails(UserError(f"mistake of {rank}")))),
            caught(lambda: world.gather(lambda: fails(UserError("of 1")) if rank == 1 else rank)),
            caught(lambda: world.gather(lambda: fails(UserError("of 1") if rank == 1 else StopWanted()))),
            caught(lambda: world.gather(lambda: fails(StopWanted()) if rank == 1 else rank)),
            caught(lambda: world.gather(lambda: fails(Torn("a", "b")) if rank == 1 else rank)),
            caught(lambda: world.gather(lambda: (lambda: rank) if rank == 1 else rank))[0],
            caught(lambda: not_finite(world)),
            fitted(world),
            lengthened(world, float(1 + 9 * rank)),
        ]


def fitted(world: World) -> int:
    """The batch where one patch more fits on rank 0 than on the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_trial", lambda *_: lambda batch: batch <= (4 if world.is_first else 2))
        return fitting_batch(small("default"), CPU, 1, world)


def lengthened(world: World, seconds: float) -> int:
    """The interval after a validation that took so long."""
    pace = Pace(1, may_grow=True)
    lengthen(
        pace, small("default"), torch.device("cuda"), lambda _: None, validation_seconds=seconds, epoch_seconds=10.0,
        epochs_done=1, epochs_left=10**6, world=world,
    )  # fmt: skip
    return pace.every


def not_finite(world: World) -> None:
    with _named_by_all(world):
        raise NonFiniteError(f"the loss is not finite: term focal; patches of case{world.rank}")


def test_ranks_are_told_the_same_errors_included() -> None:
    codes, (first, second) = launch(told, 2)
    assert codes == [0, 0]
    assert first == second
    expected = [(1, 2 * 10**12 + 1), 5, "of 0", [0, 1], ("UserError", "mistake of 0"), ("UserError", "of 1")]
    assert first[:6] == expected
    assert first[6] == ("UserError", "of 1"), "a fault goes before a wish"
    assert first[7] == ("StopWanted", "")
    assert first[8] == ("RuntimeError", "Torn: ab")
    assert first[10] == ("NonFiniteError", "the loss is not finite: term focal; patches of case0, case1")
    assert first[11] == 4, "what fits on each card, times their number"
    assert first[12] == lengthened(ALONE, 1.0), "by the clock of rank 0"
    assert first[9] in ("RuntimeError", "PicklingError", "AttributeError")


def gone_on(world: World, deep: bool, seed: int) -> tuple[Tensor, Tensor, int, tuple[bool, str]]:
    """In float64: parameters of six steps, of the last three again from a copy, gradients left out, a planted NaN."""
    names = ("cldice", "signed_distance") if deep else ("soft_dice", "variance")  # coarse outputs: no term sees them
    objective, data = CompositeLoss({name: (1.0, TERMS[name]()) for name in names}), batches(seed)[:6]

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
        torch.manual_seed(seed)
        model: nn.Module = ResEncUNet(1, 1, (2, 2, 2), (1, 1, 1), deep_supervision=True) if deep else UNet(1, 1, 2, 1)
        model = model.double()
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
        return model, optimiser, forward_of(model, world, leaves_out=deep)

    def steps(model: nn.Module, optimiser: torch.optim.Optimizer, forward: Any, some: list[dict[str, Tensor]]) -> None:
        for batch in some:
            batch = {"image": batch["image"].double()} | {name: batch[name] for name in ("target", "valid")}
            each = len(batch["image"]) // world.size
            part = {name: value[world.rank * each : (world.rank + 1) * each] for name, value in batch.items()}
            with world.whole_batch():
                training_step(
                    model, objective, optimiser, part, precision=choose_precision("fp32", CPU), device=CPU,
                    gradient_clip=1.0, forward=forward,
                )  # fmt: skip

    data = [{name: torch.cat([one[name], one[name][:2]]) for name in one} for one in data]  # six samples
    run = fresh()
    steps(*run, data[:3])
    model, optimiser, forward = fresh()
    model.load_state_dict(copy.deepcopy(run[0].state_dict()))
    optimiser.load_state_dict(copy.deepcopy(run[1].state_dict()))
    steps(*run, data[3:])
    steps(model, optimiser, forward, data[3:])
    flat = [nn.utils.parameters_to_vector(one.parameters()).detach() for one in (run[0], model)]
    bad = copy.deepcopy(data[0])
    bad["image"][-1], bad["valid"][-1] = math.nan, True  # in the last rank's part
    said = caught(lambda: steps(*run, [bad]))[0]
    same = torch.equal(flat[0], nn.utils.parameters_to_vector(run[0].parameters()))
    return (*flat, sum(one.grad is None for one in model.parameters()), (same, said))


def all_gone_on(seed: int) -> list[Any]:
    with joined("cpu") as world:
        return [gone_on(world, deep, seed) for deep in (False, True)]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_go_on_to_the_same_bits_and_stop_before_a_number_that_is_not_finite(size: int) -> None:
    seed = random.randrange(2**31)
    codes, told = launch(all_gone_on, size, seed)
    assert codes == [0] * size, seed
    for number, deep in enumerate((False, True)):
        alone = gone_on(ALONE, deep, seed)
        for found in (one[number] for one in told):
            assert torch.equal(found[0], told[0][number][0]), (seed, deep, "ranks differ")
            assert torch.equal(found[0], found[1]), (seed, deep, "after going on")
            assert float((found[0] - alone[0]).norm() / alone[0].norm()) < 1e-9, (seed, deep)
            assert found[2] == alone[2], (seed, deep, "parameters without a gradient")
            assert found[3] == alone[3] == (True, "NonFiniteError"), (seed, deep)


def test_one_process_is_told_what_it_makes() -> None:
    assert ALONE.sum(1, 2) == (1, 2)
    assert ALONE.from_first(lambda: 3) == ALONE.most(3) == ALONE.gather(lambda: 3)[0] == 3
    assert ALONE.part_of(7) == 7
    model = nn.Conv3d(1, 1, 1)
    assert forward_of(model, ALONE, leaves_out=False) is model


@given(st.integers(1, 64), st.integers(2, 9))
def test_a_batch_is_divided_evenly_or_refused_with_one_that_can_be(batch: int, size: int) -> None:
    world = World(0, size)
    if batch % size == 0:
        assert world.part_of(batch) * size == batch
        return
    with pytest.raises(UserError, match=f"data.batch is {batch}") as refused:
        world.part_of(batch)
    fits = int(str(refused.value).split("data.batch=")[1].split(",")[0])
    assert World(0, size).part_of(fits) >= 1


@given(st.integers(1, 9))
def test_a_batch_that_is_chosen_for_the_ranks_can_be_divided(size: int) -> None:
    world = World(0, size, device=CPU)
    batch = with_batch(load_config("preset:default", ["data.batch=auto"]).config, world=world).data.batch
    assert world.part_of(batch) >= 1


@given(st.lists(st.integers(1, 10**9), min_size=0, max_size=20), st.integers(1, 9))
def test_every_case_falls_to_one_rank_and_the_shares_are_even(sizes: Sequence[int], size: int) -> None:
    cases = [f"case{number}" for number in range(len(sizes))]
    shapes = {case: (one, 1, 1) for case, one in zip(cases, sizes, strict=True)}
    shares = [my_cases(cases, shapes, World(rank, size)) for rank in range(size)]
    assert sorted(number for share in shares for number in share) == list(range(len(cases)))
    loads = [sum(sizes[number] for number in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def test_what_ranks_cannot_share_is_refused_with_a_way_out() -> None:
    config = load_config("preset:default", ["training.intervention={kind: tournament}", "data.batch=2"]).config
    refuse_unshared(config, ALONE)
    with pytest.raises(UserError, match=r"training\.intervention=null"):
        refuse_unshared(config, World(0, 2))
    with pytest.raises(UserError, match=r"training\.compile=off"):
        refuse_unshared(load_config("preset:default", ["training.compile=on", "data.batch=2"]).config, World(0, 2))
    with pytest.raises(UserError, match="norm"):
        forward_of(nn.Sequential(nn.BatchNorm3d(1)), World(0, 2), leaves_out=False)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        (dict.fromkeys(("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"), "x") | {"WORLD_SIZE": "2"}, "RANK is 'x'"),
    ],
)
def test_an_environment_that_is_not_torchruns_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said), joined("cpu", environment):
        pass


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_one_process_joins_nobody(environment: dict[str, str]) -> None:
    with joined("cpu", environment) as world:
        assert world is ALONE
    assert not torch.distributed.is_initialized()
    assert not math.isnan(float(world.add(torch.ones(1))))
