"""The same step by others: plain PyTorch, its compiler, MONAI's and nnU-Net's networks of the same size."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from volumen.models import count_parameters

from .plan import Plan, batch_of
from .report import Report
from .timing import free_memory, milliseconds, peak_gib, settle, tried_out

CHANNELS_LAST, CHANNELS_FIRST = torch.channels_last_3d, torch.contiguous_format


class PlainUNet(nn.Module):
    """The network of `volumen.models.UNet`, of PyTorch's own layers."""

    def __init__(self, filters: int, depth: int) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(depth + 1)]
        self.encoders = nn.ModuleList(self.double(*pair) for pair in zip([1, *widths[:-1]], widths, strict=True))
        finer = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.upsamplers = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, stride=2) for coarse, fine in finer)
        self.decoders = nn.ModuleList(self.double(2 * fine, fine) for _, fine in finer)
        self.output = nn.Conv3d(filters, 1, 1)

    @staticmethod
    def double(inside: int, outside: int) -> nn.Sequential:
        """Two convolutions, each with norm and activation."""
        layers: list[nn.Module] = []
        for channels in (inside, outside):
            layers += [nn.Conv3d(channels, outside, 3, padding=1), nn.InstanceNorm3d(outside)]
            layers.append(nn.LeakyReLU(0.01, inplace=True))
        return nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 1, Z, Y, X] -> logits of the same shape."""
        skips: list[Tensor] = []
        for encoder in self.encoders:
            image = encoder(functional.max_pool3d(image, 2) if skips else image)
            skips.append(image)
        skips.pop()
        for upsampler, decoder in zip(self.upsamplers, self.decoders, strict=True):
            image = decoder(torch.cat([upsampler(image), skips.pop()], 1))
        logits: Tensor = self.output(image)
        return logits


def dice_and_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice plus cross-entropy, float32."""
    logits = logits.float()
    probability = logits.sigmoid()
    dice = (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    return 1 - dice + functional.binary_cross_entropy_with_logits(logits, truth)


def step_of(model: nn.Module, plan: Plan, dtype: torch.dtype, layout: torch.memory_format) -> Callable[[], None]:
    """Forward, loss, backward, clipping, AdamW (fused on a card), nothing read back."""
    batch, kind = batch_of(plan), plan.device.type
    image, truth = batch["image"].to(memory_format=layout), batch["target"][:, None].float()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=plan.on_card)
    scaler = torch.amp.GradScaler(kind, enabled=dtype == torch.float16)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with nullcontext() if dtype == torch.float32 else torch.autocast(kind, dtype=dtype):
            logits = model(image)
        loss = dice_and_entropy(logits[0] if isinstance(logits, list | tuple) else logits, truth)
        torch.autograd.backward(scaler.scale(loss))
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimiser)
        scaler.update()

    return step


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Whether float32 convolutions and products may use 10 bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def measure(plan: Plan, report: Report) -> None:
    """Rows of section `peers`."""
    plain = partial(PlainUNet, plan.filters, plan.depth)
    _row(plan, report, "plain, fp32 without TF32", plain, torch.float32, CHANNELS_FIRST, tf32=False)
    _row(plan, report, "plain, fp32 with TF32", plain, torch.float32, CHANNELS_FIRST)
    if plan.on_card:
        _row(plan, report, "plain, fp16", plain, torch.float16, CHANNELS_FIRST)
    _row(plan, report, "plain, bf16, channels first", plain, torch.bfloat16, CHANNELS_FIRST)
    _row(plan, report, "plain, bf16, channels last", plain, torch.bfloat16, CHANNELS_LAST)
    name = "plain, bf16, channels last, cudnn.benchmark"
    _row(plan, report, name, plain, torch.bfloat16, CHANNELS_LAST, tried=True)
    for name, build in (("MONAI's BasicUNet", _monai), ("nnU-Net's PlainConvUNet", _nnunet)):
        _row(plan, report, f"{name}, bf16", partial(build, plan), torch.bfloat16, CHANNELS_FIRST)
    _row(plan, report, "plain, bf16, channels last, compiled", plain, torch.bfloat16, CHANNELS_LAST, compiled=True)


def _row(
    plan: Plan,
    report: Report,
    name: str,
    build: Callable[[], nn.Module],
    dtype: torch.dtype,
    layout: torch.memory_format,
    *,
    tf32: bool = True,
    compiled: bool = False,
    tried: bool = False,
) -> None:
    def job() -> None:
        torch.manual_seed(0)
        model = build().to(device=plan.device, memory_format=layout).train()  # type: ignore[call-overload]
        parameters, began = count_parameters(model), time.perf_counter()
        step = step_of(torch.compile(model) if compiled else model, plan, dtype, layout)
        step()
        settle(plan.device)
        first = {"first_step_s": time.perf_counter() - began} if compiled else {}
        with tensor_float(tf32), tried_out(tried):
            spent = milliseconds(step, plan.device, plan.rounds, plan.warm_up)
        report.add("peers", variant=name, ms=spent, gib=peak_gib(plan.device), parameters=parameters, **first)

    free_memory(plan.device)
    report.attempt(name, job)


def _monai(plan: Plan) -> nn.Module:
    from monai.networks.nets import BasicUNet

    if plan.depth != 4:
        raise NotImplementedError("it has five levels always")
    features = (*(plan.filters * 2**level for level in range(5)), plan.filters)
    activation = ("LeakyReLU", {"negative_slope": 0.01, "inplace": True})
    made: nn.Module = BasicUNet(3, 1, 1, features=features, act=activation, norm=("instance", {"affine": False}))
    return made


def _nnunet(plan: Plan) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    levels = plan.depth + 1
    made: nn.Module = PlainConvUNet(
        1, levels, [plan.filters * 2**level for level in range(levels)], nn.Conv3d, 3, [1] + [2] * plan.depth, 2, 1,
        [2] * plan.depth, True, nn.InstanceNorm3d, {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU,
        {"inplace": True}, deep_supervision=False,
    )  # fmt: skip
    return made
