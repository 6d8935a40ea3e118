"""Try a device before a training relies on it: some of the run's own patches, made there and by the CPU."""

import copy
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.data.augment import Variation
from volumen.data.device.loader import DevicePatchLoader
from volumen.data.device.noise import normals
from volumen.data.sampling import PatchDataset, Sample, SampleError

MOST_KEYS = 256
"""Keys that a plain and a warped patch are looked for among."""
TOLERANCE = 1e-4
"""Of the largest grey value: what sums may round elsewhere."""
ROUNDING = 1e-6
"""Of a grey value; a contrast curve's power makes more of it near its lower end."""
TIES = 1e-4
"""Of a warped patch's voxels: those whose nearest voxel rounding may decide."""
_NOISE_SHAPE, _NOISE_KEY = (5, 6, 7), (2**32 - 5, 3)


def difference(patches: PatchDataset, loader: DevicePatchLoader) -> str | None:
    """What differs between a device's patches and the CPU's by more than rounding; None where nothing does.

    A plain cut and a warped one, without noise, whose numbers are a device's own; those are compared by themselves.

    Args:
        patches: The run's.
        loader: Makes them on the device; neither its order nor its draws change.

    Raises:
        DamagedDataError: Files of the data are damaged; besides whatever the device raises.
    """
    quiet = copy.copy(patches)
    quiet.augmentation = patches.augmentation.model_copy(update={"noise_probability": 0.0})
    for key in _keys(quiet):
        variation, _ = quiet.variation(*divmod(key, len(quiet)))
        try:
            sample = quiet[key]
        except SampleError:  # of the data, and no fault of the device: the run says so when it comes there
            return None
        said = _patches_differ(sample, loader.samples(quiet, [key]), variation)
        if said is not None:
            return f"key {key}, {'plain' if variation.matrix is None else 'warped'}: {said}"
    cpu = normals(_NOISE_SHAPE, _NOISE_KEY, torch.device("cpu")).numpy()
    here = normals(_NOISE_SHAPE, _NOISE_KEY, loader.device).cpu().numpy()
    return _values_differ("noise", cpu, here, 0)


def _keys(patches: PatchDataset) -> Iterator[int]:
    """A key with a warp and one without, as far as there are, whose grey values are varied in most ways."""
    kinds: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for key in range(MOST_KEYS):
        variation, _ = patches.variation(*divmod(key, len(patches)))
        ways = (variation.blur_sigma_voxels > 0) + (variation.gamma is not None) + (variation.scale != 1.0)
        kinds[variation.matrix is None].append((-ways, key))
    return (min(some)[1] for some in kinds.values() if some)


def _patches_differ(one: Sample, batch: Sample, variation: Variation) -> str | None:
    """A sample of the CPU's, and a batch that holds the same one of a device's."""
    ties = 0.0 if variation.matrix is None else TIES
    gamma = variation.gamma if variation.gamma is not None else 1.0
    named = chain(((name, one[name], batch[name], ties) for name in ("target", "valid")),
                  ((name, one["meta"][name], batch["meta"][name], 0.0) for name in one["meta"]))  # fmt: skip
    for name, cpu, there, share in named:
        said = _values_differ(name, cpu.numpy(), there[0].cpu().numpy(), share)
        if said is not None:
            return said
    return _values_differ("image", one["image"].numpy(), batch["image"][0].cpu().numpy(), 0, ROUNDING**gamma)


def _values_differ(
    name: str, cpu: NDArray[np.generic], there: NDArray[np.generic], share: float, tolerance: float = 0.0
) -> str | None:
    """More than a share of values that differ by more than a tolerance, of those of a size above 1 in proportion."""
    if cpu.shape != there.shape or cpu.dtype != there.dtype:
        return f"{name} is {there.dtype} {list(there.shape)}, not {cpu.dtype} {list(cpu.shape)}"
    expected, got = cpu.astype(np.float64), there.astype(np.float64)
    finite = expected[np.isfinite(expected)]
    bound = max(tolerance, TOLERANCE) * max(1.0, float(np.abs(finite).max(initial=0.0)))
    wrong = ~np.isclose(got, expected, rtol=0.0, atol=bound, equal_nan=True)
    count = int(np.count_nonzero(wrong))
    if count <= share * wrong.size:
        return None
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape) if wrong.ndim else ()
    return f"{name} in {count} of {wrong.size} values, the first {got[at]:.6g} and not {expected[at]:.6g}"
