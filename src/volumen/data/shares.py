"""How much of a data set is surface."""

from collections.abc import Sequence

from volumen.data.dataset import PreparedDataset


def surface_share(dataset: PreparedDataset, case_ids: Sequence[str]) -> float:
    """Share of surface among the labelled voxels, held away from 0 and 1."""
    cases = [dataset.case(case_id) for case_id in case_ids]
    share = sum(case.surface_voxels for case in cases) / max(sum(case.valid_voxels for case in cases), 1)
    return min(max(share, 1e-3), 1 - 1e-3)
