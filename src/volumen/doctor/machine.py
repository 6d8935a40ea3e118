"""P12: does this card compute what it should, and is the run one for a card?

A forward and a backward pass in the run's precision, of the run's own network on a patch of its own, against float32 by
PyTorch's operations: the whole batch on the card, and a small piece of the patch on the processor. On a processor there
is nothing to do: nobody is surprised by one.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from volumen.config.model import UNetModel
from volumen.doctor.check import Check
from volumen.doctor.context import Context
from volumen.doctor.cost.bench import levels_of
from volumen.doctor.findings import Finding, Severity
from volumen.models import set_plain
from volumen.runtime import Precision, choose_precision

LARGEST_ERROR = 0.2
"""Relative (Euclidean) error of logits, by their own spread, and of the gradient. Measured in bf16 on healthy
processors: at most 0.002 and 0.02; what is computed wrongly is off by about 1."""
SMALL_SIDE = 32  # voxels, at least, of the piece that the processor computes
FOR_A_PROCESSOR = 8
"""Filters of a network that leaves a card idle."""
WRONG_BF16, WRONG_TF32 = (90800, 91100), (91002, 91500)
"""cuDNN's versions from ... to before ...: large bf16 convolutions over three axes (pytorch#163539), and TF32's
(pytorch#167024)."""


@dataclass(frozen=True)
class Machine:
    """What computes."""

    torch: str
    cudnn: int | None
    """As `torch.backends.cudnn.version` has it: 90800 is 9.8.0."""
    card: str


@dataclass(frozen=True)
class Compared:
    """How far a pass is from float32."""

    what: str
    logits: float
    gradient: float

    @property
    def is_right(self) -> bool:
        """Whether the difference may be rounding; NaN may not."""
        return self.logits <= LARGEST_ERROR and self.gradient <= LARGEST_ERROR


def check_machine(context: Context) -> Iterator[Finding]:
    """P12; silent without a card."""
    if context.config.device == "cpu" or not torch.cuda.is_available():
        return
    device = torch.device("cuda")
    precision = choose_precision(context.config.precision, device)
    machine = Machine(torch.__version__, _cudnn_version(), torch.cuda.get_device_name(device))
    yield from known_faults(machine, precision)
    yield from too_small(context)
    yield from wrong_results(context, compare(context, device, precision), machine, precision)
    torch.cuda.empty_cache()


def _cudnn_version() -> int | None:
    found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return found


def known_faults(machine: Machine, precision: Precision) -> Iterator[Finding]:
    """What is known of versions, whether or not this run meets it."""
    cudnn = machine.cudnn or 0
    version = f"cuDNN {cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
    if machine.torch.startswith("2.9."):
        yield _finding(
            Severity.warn,
            "PyTorch 2.9 is about four times slower at convolutions over three axes, and takes more memory",
            f"PyTorch {machine.torch}: it passes cuDNN by (pytorch#166122)",
            "another PyTorch: 2.10 or later",
        )
    if precision.name == "bf16" and _within(cudnn, WRONG_BF16):
        yield _finding(
            Severity.warn,
            f"{version} computes large bf16 convolutions over three axes wrongly",
            f"versions 9.8 to 9.10 do (pytorch#163539); {machine.card}, PyTorch {machine.torch}",
            "pip install 'nvidia-cudnn-cu12>=9.15', or nvidia-cudnn-cu13 where PyTorch is built for CUDA 13",
            "precision: fp16 or fp32",
        )
    if precision.name == "fp32" and _within(cudnn, WRONG_TF32) and torch.backends.cudnn.allow_tf32:
        yield _finding(
            Severity.warn,
            f"{version} computes some TF32 convolutions over three axes wrongly",
            f"versions 9.10.2 to 9.14 do (pytorch#167024); {machine.card}, PyTorch {machine.torch}",
            "a newer PyTorch or cuDNN",
            "precision: bf16",
        )


def _within(version: int, versions: tuple[int, int]) -> bool:
    return versions[0] <= version < versions[1]


def too_small(context: Context) -> Iterator[Finding]:
    """A run that was made for a processor."""
    model = context.config.model
    if isinstance(model, UNetModel) and model.filters <= FOR_A_PROCESSOR:
        side = " x ".join(map(str, context.config.data.patch))
        yield _finding(
            Severity.note,
            "this run is one for a processor, and the machine has a card: preset:gpu is made for it",
            f"{model.filters} filters, patches of {side} voxels",
            "volumen train preset:gpu, or base: preset:gpu in a configuration of your own",
        )


def wrong_results(
    context: Context, found: tuple[Compared, ...], machine: Machine, precision: Precision
) -> Iterator[Finding]:
    """What was computed and cannot be rounding."""
    wrong = [one for one in found if not one.is_right]
    if wrong:
        numbers = "; ".join(f"{one.what}: logits {one.logits:.2g}, gradient {one.gradient:.2g}" for one in wrong)
        yield _finding(
            Severity.stop,
            f"the network computes something else in {precision.name} on this card",
            f"relative difference from float32 by PyTorch's own operations: {numbers} (up to {LARGEST_ERROR} would be "
            f"rounding); {machine.card}, PyTorch {machine.torch}, cuDNN {machine.cudnn}",
            "another version of PyTorch, cuDNN or the driver",
            "precision: fp32, or device: cpu",
            where=context.where("precision"),
        )


def _finding(severity: Severity, title: str, evidence: str, *remedies: str, where: str = "device") -> Finding:
    causes: tuple[str, ...] = ("the version of a library, or of the driver", "a card that is broken")
    if severity is Severity.note:
        causes = ("the default preset is for a machine without a card",)
    return Finding("P12", severity, title, evidence, causes, remedies, where)


def compare(context: Context, device: torch.device, precision: Precision) -> tuple[Compared, ...]:
    """A pass of the run's network on its first patch: all of it on the device, a small piece on the processor.

    The batch is the run's, or as much of it as fits in float32.
    """
    config = context.config
    with torch.random.fork_rng(devices=[]):
        model = context.state(config, device, precision, initial=context.initial).model.train()
        image = context.patches[context.patches.key(0, 0)]["image"][None]
        side = max(SMALL_SIDE, 2 * config.divisor)
        piece = image[:, :, :side, :side, :side].contiguous()
        small = _difference("a small piece, on the processor", model, piece, precision, device, torch.device("cpu"))
        batch = config.data.batch
        while batch:
            try:
                given, what = image.repeat(batch, 1, 1, 1, 1), f"a batch of {batch}, on the card"
                return small, _difference(what, model, given, precision, device, device)
            except torch.OutOfMemoryError:
                batch //= 2
    return (small,)


def _difference(
    what: str, model: nn.Module, image: Tensor, precision: Precision, device: torch.device, judge: torch.device
) -> Compared:
    """A pass in the run's precision against one in float32 on `judge`, from the image as the gradient at the logits.

    What rounding the logits themselves may take is no error: they lie about the prior's, far from 0.
    """
    found = _pass(model, image, precision, device)
    with _exact_float32():
        plain = copy.deepcopy(model)
        set_plain(plain)
        expected = _pass(plain, image, Precision("fp32", judge.type), judge)
    spread = expected[0] - expected[0].mean()
    rounding = torch.finfo(precision.dtype).eps / 2 * expected[0].norm()
    return Compared(
        what,
        float(((found[0] - expected[0]).norm() - rounding).clamp(min=0) / spread.norm()),
        float((found[1] - expected[1]).norm() / expected[1].norm()),
    )


def _pass(model: nn.Module, image: Tensor, precision: Precision, device: torch.device) -> tuple[Tensor, Tensor]:
    """The finest logits and the gradient of all parameters, float32 on the CPU."""
    layout = precision.memory_format
    made = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    made.zero_grad(set_to_none=True)
    with precision.autocast():
        levels = levels_of(made(image.to(device=device, memory_format=layout)))
    pushes = [functional.interpolate(image[:, :1], size=level.shape[2:]).to(level) for level in levels]
    torch.autograd.backward(levels, pushes)
    gradients = [part.grad.float().flatten() for part in made.parameters() if part.grad is not None]
    found = levels[0].detach().float().cpu(), torch.cat(gradients).cpu()
    made.zero_grad(set_to_none=True)
    return found


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Convolutions and products of float32 with all of its mantissa."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


MACHINE = Check(code="P12", title="The card", run=check_machine, seconds=4.0)
