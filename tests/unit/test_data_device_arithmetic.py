"""What patches on a device are made of, piece by piece: noise by counting, filling in, grey values, the kernel."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from volumen.data import augment, emptiness
from volumen.data.augment import Variation
from volumen.data.device.filling import fill_in
from volumen.data.device.grid import grid_of
from volumen.data.device.intensity import vary_intensity
from volumen.data.device.noise import normals, philox

CPU = torch.device("cpu")
PI_COUNTER = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
PI_KEY = (0xA4093822, 0x299F31D0)
WORD = 2**32 - 1


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((WORD,) * 4, (WORD, WORD), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI_COUNTER, PI_KEY, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_gives_the_published_words(counter, key, expected):
    """Known answers of Random123."""
    assert tuple(int(word) for word in philox([torch.tensor([one]) for one in counter], key)) == expected


@given(st.tuples(*[st.integers(0, WORD)] * 2), st.tuples(*[st.integers(1, 12)] * 3), st.integers(1, 12))
def test_a_number_depends_on_its_place_and_key_alone(key, shape, longer):
    few, many = normals(shape, key, CPU), normals((shape[0] + longer, *shape[1:]), key, CPU)
    assert torch.equal(few, many[: shape[0]])
    assert torch.isfinite(many).all()


def test_normals_are_normal():
    made = torch.cat([normals((40, 50, 50), (seed, 9), CPU).ravel() for seed in range(4)]).double()
    for power, moment in enumerate((0, 1, 0, 3, 0, 15), 1):
        spread = float(np.prod(np.arange(1, 2 * power, 2), dtype=float)) ** 0.5 / made.numel() ** 0.5
        assert abs(float((made**power).mean()) - moment) < 5 * spread
    shares = torch.special.ndtr(made).histc(20, 0, 1) / made.numel()
    assert float((shares - 0.05).abs().max()) < 5 * (0.05 / made.numel()) ** 0.5


@given(st.tuples(*[st.integers(1, 20)] * 3), st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]), st.integers(0, 2**32))
def test_filling_in_is_the_cpus(shape, share, seed):
    random = np.random.default_rng(seed)
    image, scan = random.integers(0, 250, shape).astype(np.uint8), random.random(shape) < share
    made = fill_in(torch.from_numpy(image), torch.from_numpy(scan))
    np.testing.assert_array_equal(made.numpy(), emptiness.fill_in(image, scan))


def test_filling_in_reaches_far(monkeypatch):
    """Beyond what fits into 32 bits, and in several pieces."""
    image = np.arange(2 * 3 * 700, dtype=np.int16).reshape(2, 3, 700)
    scan = np.zeros(image.shape, bool)
    scan[0, 1, 3] = scan[1, 2, 690] = True
    monkeypatch.setattr("volumen.data.device.filling.CHUNK_NUMBERS", 1)
    made = fill_in(torch.from_numpy(image), torch.from_numpy(scan))
    np.testing.assert_array_equal(made.numpy(), emptiness.fill_in(image, scan))


turns = st.lists(
    st.tuples(st.sampled_from([(0, 1), (0, 2), (1, 2)]), st.integers(0, 3)).map(lambda one: (*one[0], one[1])),
    max_size=3,
).map(tuple)
variations = st.builds(
    Variation,
    matrix=st.none(),
    quarter_turns=turns,
    flips=st.tuples(*[st.booleans()] * 3),
    scale=st.sampled_from([1.0, 0.8, 1.3]),
    shift=st.sampled_from([0.0, -0.2, 0.1]),
    gamma=st.none() | st.floats(0.5, 2.0),
    noise_std=st.sampled_from([0.0, 0.3]),
    blur_sigma_voxels=st.sampled_from([0.0, 0.1, 0.4, 1.0, 5.0, 16.0]),
)


@given(variations, st.integers(8, 11))
def test_a_grid_says_where_a_turned_voxel_was(variation, side):
    patch = (side,) * 3
    indices = np.indices(patch)
    grid = grid_of(variation, patch)
    expected = np.stack([augment.turned(axis, variation) for axis in indices])
    made = np.einsum("ab,bzyx->azyx", grid.turn, indices) + grid.offset[:, None, None, None]
    np.testing.assert_array_equal(made, expected)


class Given:
    """A generator whose normals are known."""

    def __init__(self, numbers):
        self.numbers = numbers

    def standard_normal(self, shape, dtype):
        return self.numbers.reshape(shape).astype(dtype)


@given(variations, st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 2**32), st.booleans())
def test_grey_values_vary_as_on_the_cpu(variation, shape, seed, constant):
    random = np.random.default_rng(seed)
    image = np.full(shape, 0.7, np.float32) if constant else random.normal(size=shape).astype(np.float32)
    numbers = random.normal(size=shape).astype(np.float32)
    expected = augment.vary_intensity(image.copy(), variation, Given(numbers))
    made = vary_intensity(torch.from_numpy(image.copy()), variation, lambda: torch.from_numpy(numbers))
    if constant and variation.blur_sigma_voxels:  # all that a curve would stretch is rounding
        return
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-4, atol=1e-4)


KERNEL = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
import torch
from small_datasets import prepared_dataset
from volumen.config.data import Augmentation, Data, Sampling
from volumen.data.device.compiled_cutting import cut_compiled, try_kernel
from volumen.data.device.loader import DevicePatchLoader
from volumen.data.sampling import PatchDataset

prepared = prepared_dataset(Path(sys.argv[1]), {"11": "a", "12": "b"}, empty=5)
try_kernel(torch.device("cpu"))
count = 0
for patch, on_device in (((16, 16, 16), True), ((9, 26, 9), False), ((24, 8, 11), True)):
    augmentation = Augmentation(affine_probability=0.5, affine_degrees=45.0, rotations="all")
    config = Data(dataset="p", patch=patch, augmentation=augmentation, sampling=Sampling(patches_per_epoch=4))
    patches, cpu = PatchDataset(prepared, ("11", "12"), config, 3), torch.device("cpu")
    budget = None if on_device else 0
    with DevicePatchLoader(patches, 2, cpu, budget) as kernel, DevicePatchLoader(patches, 2, cpu) as plain:
        kernel._kernel = cut_compiled
        for one, other in zip(kernel.epoch(0), plain.epoch(0), strict=True):
            for name in ("image", "target", "valid"):
                assert torch.equal(one[name], other[name]), (patch, name)
            count += 1
print(count)
"""


COMPILING = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from volumen.data.device.compiled_cutting import _cut

kinds = {"lesson": "*u8", "table": "*fp32", "whole": "*i64", "real": "*fp64", "out": "*fp32", "target": "*u8"}
for number, (kind, stored) in enumerate([(0, "*fp32"), (1, "*u8"), (2, "*i16")]):
    chosen = {"WARPED": number > 0, "KIND": kind, "SURFACE": 1, "IGNORE": 2, "SLACK": 1e-6, "BLOCK": 512}
    types = {**kinds, "image": stored, "valid": "*u8", "voxels": "i32", **dict.fromkeys(chosen, "constexpr")}
    source = ASTSource(_cut, {name: types[name] for name in _cut.arg_names}, chosen)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    assert "fma.rn" not in made.asm["ptx"]
    print("compiled")
"""


def _run(script: str, *arguments: object, interpreted: bool) -> str:
    """What a script prints; Triton's interpreter has to be chosen before Triton is imported."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "TRITON_INTERPRET": str(int(interpreted))},
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_the_kernel_cuts_what_the_reference_cuts(tmp_path: Path):
    assert _run(KERNEL, tmp_path, interpreted=True).split()[-1] == "6"


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_the_kernel_compiles_for_a_card_and_fuses_nothing():
    """No card is needed for that; what is fused rounds otherwise than on the CPU."""
    assert _run(COMPILING, interpreted=False).split() == ["compiled"] * 3
