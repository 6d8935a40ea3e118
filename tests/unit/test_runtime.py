"""Device, precision, allocator and cores: asked of the machine, and refused plainly where it cannot."""

import subprocess
import sys

import pytest
import torch

from volumen import runtime
from volumen.errors import UserError
from volumen.runtime import Precision, choose_device, choose_precision, physical_cores


def test_the_processor_decides_the_automatic_precision(monkeypatch):
    for fast, name in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(runtime, "cpu_has_fast_bfloat16", lambda fast=fast: fast)
        assert choose_precision("auto", "cpu").name == name


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ({"avx2", "fma"}, False),
        ({"avx512f"}, False),
        ({"avx512f", "avx512_bf16"}, True),
        ({"amx_bf16"}, True),
        (set(), False),
    ],
)
def test_native_bfloat16_means_amx_or_avx512_bf16(flags, fast, monkeypatch):
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset(flags))
    assert runtime.cpu_has_fast_bfloat16() is fast
    assert ("AMX present" in runtime.cpu_description()) is ("amx_bf16" in flags)


def test_flags_agree_with_what_pytorch_says():
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX2":
        assert "avx2" in runtime.cpu_flags()
    if capability.startswith("AVX512"):
        assert "avx512f" in runtime.cpu_flags()


def test_a_precision_is_a_context_and_a_layout():
    layer, values = torch.nn.Conv3d(1, 2, 3), torch.zeros(1, 1, 4, 4, 4)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        precision = Precision(name, "cpu")
        with precision.autocast():
            assert layer(values).dtype == dtype == precision.dtype
        assert precision.memory_format == torch.channels_last_3d


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_cuda_is_channels_last_where_triton_works(monkeypatch, name, there):
    monkeypatch.setattr("volumen.runtime.has_triton", lambda: there)
    expected = torch.channels_last_3d if there else torch.contiguous_format
    assert Precision(name, "cuda").memory_format == expected


def test_requests_that_cannot_be_met_are_refused():
    with pytest.raises(UserError, match="fp16 works on CUDA only"):
        choose_precision("fp16", "cpu")
    assert choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert choose_device("auto") == torch.device("cpu")
        with pytest.raises(UserError, match="no CUDA device"):
            choose_device("cuda")


def test_cores_are_at_least_one_and_no_more_than_processors():
    assert 1 <= physical_cores() <= (runtime.os.cpu_count() or 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_tuned_allocator_stops_the_page_faults():
    """In a process of its own: count the page faults of allocating, filling and freeing 64 MB again and again."""
    code = """
import resource, sys, torch
from volumen.runtime import tune_allocator
torch.set_num_threads(1)
if sys.argv[1] == "tuned":
    assert tune_allocator()
faults = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[-6:]))
"""
    counts = {}
    for mode in ("tuned", "default"):
        done = subprocess.run([sys.executable, "-c", code, mode], capture_output=True, text=True, check=True)
        counts[mode] = int(done.stdout)
    # Once the freed blocks have found their places. Huge pages may make the default's faults few, never none.
    assert 2 * counts["tuned"] < counts["default"]


def test_no_glibc_is_said_by_the_answer(monkeypatch):
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    assert runtime.tune_allocator() is False
