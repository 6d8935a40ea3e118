"""Whatever the networks launch is taken by Triton's compiler and fits into a card's shared memory."""

import pytest
import torch
from tests.compiled import Compiler
from tests.interpreted import INTERPRETED

from volumen.kernels import triton_convolution, triton_rows
from volumen.models import ResEncUNet, UNet, blocks, levels, norm

triton_jit = pytest.importorskip("triton.runtime.jit")
pytestmark = pytest.mark.skipif(INTERPRETED, reason="what is interpreted is not compiled")
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}
"""That a program can have, by compute capability (NVIDIA's programming guide, table of technical specifications)."""


@pytest.fixture
def compiler(monkeypatch):
    made = Compiler(90)
    monkeypatch.setattr(
        triton_jit.JITFunction, "run", lambda kernel, *args, **given: made.launch(kernel, *args, **given)
    )
    for module in (blocks, levels, norm):
        monkeypatch.setattr(module, "uses_triton", lambda values, plain=False: not plain)
    monkeypatch.setattr(triton_rows, "processors_of", lambda tensor: 132)
    monkeypatch.setattr(triton_convolution, "_FEWEST_VOXELS", 1)
    return made


@pytest.mark.parametrize(("capability", "dtype"), [(80, torch.bfloat16), (90, torch.bfloat16), (90, torch.float32)])
@pytest.mark.parametrize("residual", [False, True], ids=["unet", "resenc"])
def test_every_kernel_of_a_step_compiles(compiler, capability, dtype, residual):
    compiler.capability = capability
    network = ResEncUNet(features=(32, 64), blocks=(1, 1)) if residual else UNet(filters=32, depth=1)
    network = network.to(dtype=dtype, memory_format=torch.channels_last_3d)
    out = network(torch.zeros(1, 1, 4, 4, 64, dtype=dtype))
    (out[0] if isinstance(out, list) else out).sum().backward()
    names = {key[0] for key in compiler.compiled}
    assert {"moments", "normalise", "gradient_sums", "gradient", "first_kernel", "last_backward_kernel"} <= names
    if dtype == torch.bfloat16:
        assert {"rows_kernel", "weights_kernel"} <= names
    used = {key[0]: one.metadata.shared for key, one in compiler.compiled.items()}
    assert max(used.values()) <= SHARED_BYTES[capability], used


def test_a_kernel_that_the_compiler_refuses_is_found(compiler):
    from volumen.system.triton_trial import jitted

    def careless(values):
        first = second = values  # the interpreter takes it, the compiler does not
        return first, second

    with pytest.raises(Exception, match="assignment"):
        jitted(careless)[(1,)](torch.zeros(16))
