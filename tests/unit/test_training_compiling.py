"""Compiled steps: the same weights under the same names, a warm-up that leaves no trace, an error that says the fix."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from volumen.config.compare import may_change
from volumen.config.load import load_config
from volumen.errors import UserError
from volumen.losses import TERMS, CompositeLoss
from volumen.runtime import Precision
from volumen.training.compiling import compile_steps, compiles
from volumen.training.step import training_step

CPU = torch.device("cpu")
FP32 = Precision("fp32", "cpu")


def session_of(compile_):
    config = load_config(
        "preset:default", ["data.dataset=nowhere", f"training.compile={compile_}", "data.patch=[16, 16, 16]"]
    ).config
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Dropout(0.5), nn.Conv3d(2, 1, 1))
    objective = CompositeLoss({"soft_dice": (1.0, TERMS["soft_dice"]())})
    state = SimpleNamespace(
        model=model, optimiser=torch.optim.SGD(model.parameters(), lr=0.5), seconds=0.0, objective=lambda: objective
    )
    events = []
    return SimpleNamespace(
        config=config, device=CPU, precision=FP32, state=state, forward=model, event=events.append, events=events
    )


def test_auto_and_off_compile_nothing_on_a_cpu():
    assert [compiles(session_of(name).config, CPU) for name in ("auto", "off", "on")] == [False, False, True]
    assert may_change("training.compile")


def test_a_compiler_that_fails_is_an_error_with_its_fix(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def fails(_model, **_options):
        def forward(_image):
            raise TorchDynamoException("no compiler\nat all")

        return forward

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(UserError, match=r"no compiler\): set it to off"):
        compile_steps(session_of("on"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by itself
def test_compiled_steps_have_the_same_names_and_near_weights(monkeypatch):
    real = torch.compile  # as the compiler traces and differentiates; its own kernels need a C++ compiler and a minute
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend="aot_eager", **options))
    plain, compiled = session_of("off"), session_of("on")
    before = {name: one.clone() for name, one in compiled.state.model.state_dict().items()}
    random = torch.get_rng_state()
    compile_steps(compiled)
    after = compiled.state.model.state_dict()
    assert list(after) == list(plain.state.model.state_dict())
    assert all(torch.equal(after[name], one) for name, one in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(one.grad is None for one in compiled.state.model.parameters())
    (event,) = compiled.events
    assert event["kind"] == "compiled"
    assert compiled.state.seconds >= event["seconds"] - 0.1 > 0
    target = (torch.rand(2, 16, 16, 16) > 0.7).to(torch.uint8)
    batch = {"image": torch.randn(2, 1, 16, 16, 16), "target": target, "valid": target < 2}
    for session in (plain, compiled):
        session.state.model[2].p = 0.0  # whose random numbers a compiler draws otherwise
        for _ in range(2):
            training_step(
                session.state.model, session.state.objective(), session.state.optimiser, batch, precision=FP32,
                device=CPU, gradient_clip=1.0, forward=session.forward,
            )  # fmt: skip
    torch.testing.assert_close(compiled.state.model.state_dict(), plain.state.model.state_dict())
