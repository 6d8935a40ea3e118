"""What the Triton kernels take on a card at each level of the U-Net, and what share of a bandwidth that is.

    ./run bench triton_kernels                              as they are
    ./run bench triton_kernels --set reduce=8192 apply_warps=8     with other `volumen.kernels.triton_rows.Tiles`
    ./run bench triton_kernels --dtype fp32 --beside        beside PyTorch's own, channels last and first

Every line also says how far output and gradient are from PyTorch's in float32, as a share of the largest number.
"""

import argparse
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from volumen.kernels import triton_rows
from volumen.kernels.triton_norm import TritonAffineNorm, TritonNorm
from volumen.kernels.triton_resample import TritonJoin, TritonPool

LAST = torch.channels_last_3d
LEVELS = ((32, 128), (64, 64), (128, 32), (256, 16), (512, 8))
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
REPEATS = 20


def milliseconds(work: Callable[[], object]) -> float:
    """Median over several calls, on the card's clock."""
    for _ in range(3):
        work()
    times = []
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[REPEATS // 2]


def plain_norm(values: Tensor, _: Tensor) -> Tensor:
    """PyTorch's own."""
    return functional.leaky_relu(functional.instance_norm(values), 0.01, inplace=True)


Case = tuple[str, Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor], float, float]


def cases(channels: int, device: str) -> list[Case]:
    """Name, kernel, PyTorch's operation, and activations read and written forward and backward."""
    weight = torch.linspace(0.5, 1.5, channels, device=device)
    zeros = torch.zeros_like(weight)

    def affine_plain(values: Tensor, side: Tensor) -> Tensor:
        normal = functional.instance_norm(values, weight=weight.to(values.dtype), bias=zeros.to(values.dtype))
        return functional.leaky_relu(normal + side, 0.01)

    return [
        ("norm", lambda values, _: TritonNorm.apply(values, None, 0.01, 1e-5, False), plain_norm, 3, 5),
        ("affine, added",
         lambda values, side: TritonAffineNorm.apply(values, weight, zeros, side, None, 0.01, 1e-5),
         affine_plain, 4, 7),
        ("max pool", lambda values, _: TritonPool.apply(values, True)[0],
         lambda values, _: functional.max_pool3d(values, 2), 1.2, 1.2),
        ("mean pool", lambda values, _: TritonPool.apply(values, False)[0],
         lambda values, _: functional.avg_pool3d(values, 2), 1.125, 1.125),
        ("join", lambda values, side: TritonJoin.apply(values, zeros, side),
         lambda values, side: torch.cat([values, side], 1), 4, 2),
    ]  # fmt: skip


def measure(
    operation: Callable[[Tensor, Tensor], Tensor], values: Tensor, side: Tensor
) -> tuple[list[Tensor], float, float]:
    """Output and gradient, milliseconds forward and backward."""
    leaf = values.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = operation(leaf, side)
    layout = LAST if out.is_contiguous(memory_format=LAST) else torch.contiguous_format
    generator = torch.Generator(values.device).manual_seed(1)
    gradient = (
        torch.randn(out.shape, device=out.device, generator=generator).to(out.dtype).contiguous(memory_format=layout)
    )
    forward = milliseconds(lambda: operation(leaf, side))
    backward = milliseconds(lambda: torch.autograd.grad(out, leaf, gradient, retain_graph=True))
    (found,) = torch.autograd.grad(out, leaf, gradient)
    return [out.detach(), found], forward, backward


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER", help="fields of Tiles")
    parser.add_argument("--beside", action="store_true", help="measure PyTorch's own operations too")
    parser.add_argument("--terabytes", type=float, default=3.0, help="the bandwidth to compare with, in TB/s")
    parser.add_argument("--levels", type=int, default=len(LEVELS), help="so many of them, finest first")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("these kernels run on a CUDA device, and there is none")
    changes = {name: int(number) for name, number in (entry.split("=") for entry in given.set)}
    triton_rows.TILES = dataclasses.replace(triton_rows.Tiles(), **changes)
    device, dtype = "cuda", DTYPES[given.dtype]
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {given.dtype}, {triton_rows.TILES}")
    print("kernel, channels, side: forward ms (share of bandwidth), backward ms (share); errors of output and gradient")
    for channels, side_voxels in LEVELS[: given.levels]:
        shape = (given.batch, channels, *(side_voxels,) * 3)
        values, side = (torch.randn(shape, device=device).to(dtype).contiguous(memory_format=LAST) for _ in range(2))
        terabytes = values.numel() * values.element_size() / 1e12
        for name, kernel, plain, read, written in cases(channels, device):
            found, forward, backward = measure(kernel, values, side)
            exact, *_ = measure(plain, values.float().contiguous(), side.float().contiguous())
            apart = [float((a.float() - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True)]
            shares = [count * terabytes / given.terabytes * 1e3 / time for count, time in
                      ((read, forward), (written, backward))]  # fmt: skip
            print(f"{name:14} {channels:4} {side_voxels:4}: {forward:7.3f} ({shares[0]:4.0%}) {backward:7.3f} "
                  f"({shares[1]:4.0%}); {apart[0]:.0e} {apart[1]:.0e}", flush=True)  # fmt: skip
            if given.beside:
                for word, layout in (("last", LAST), ("first", torch.contiguous_format)):
                    laid = [tensor.contiguous(memory_format=layout) for tensor in (values, side)]
                    _, forward, backward = measure(plain, *laid)
                    print(f"    PyTorch, channels {word:5}: {forward:7.3f}        {backward:7.3f}", flush=True)


if __name__ == "__main__":
    main()
