"""`volumen prepare`: verify a data set, all of it, and pack it for training.

Everything that is wrong is reported at once, so that mending takes one round. Each case is written atomically, so an
interrupted run goes on where it stopped. The manifest is written last: a folder that has one is complete.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from textwrap import indent

from volumen._version import __version__
from volumen.data.dataset import FORMAT_VERSION, MANIFEST, PARTS, Case, PreparedDataset, identity_of
from volumen.data.emptiness import in_words
from volumen.data.labels import LabelMeanings
from volumen.data.layout import Layout, RawCase, read_layout
from volumen.data.meanings import FILE, PROPOSAL, proposal_text, propose, read_meanings
from volumen.data.pack import OUTDATED, RECORDS, Examined, changed_sources, pack_case, was_complete
from volumen.data.spacing import Spacing, not_cubes
from volumen.errors import UserError
from volumen.files import sha256_of, write_atomically
from volumen.system.locks import hold
from volumen.system.names import shown, some
from volumen.system.output import Progress, counted, unheard
from volumen.system.places import writable_folder
from volumen.system.records import parse_json, write_record

SOURCE = "source.json"


class DatasetProblems(UserError):
    """Everything that is wrong with a data set."""

    def __init__(self, dataset: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = counted(len(problems), "problem")
        listed = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, start=1))
        super().__init__(f"{count} in the data set {dataset}:\n{listed}")


def prepare(
    dataset: Path,
    out: Path,
    *,
    meanings_file: Path | None = None,
    accept_proposal: bool = False,
    accept_changes: bool = False,
    workers: int = 1,
    progress: Progress = unheard,
) -> PreparedDataset:
    """Verify and pack a data set in the competition's layout.

    Args:
        dataset: its folder.
        out: folder to write; one that already holds this data set is brought up to date.
        meanings_file: declares what the label values mean; None takes `dataset.yaml` in the data set's folder.
        accept_proposal: where there is no such file, go on with the proposed meanings.
        accept_changes: pack files again that changed since they were packed, instead of refusing them.
        workers: threads (decoding and hashing run outside of Python's lock).
        progress: told after each case.

    Raises:
        UserError: the folders are wrong, or label meanings are not declared (with a proposal).
        DatasetProblems: everything that is wrong with the files.
    """
    dataset, out = Path(dataset), Path(out)
    layout = read_layout(dataset)
    _refuse_place(out, dataset)
    with hold(writable_folder(out), "prepare"):
        _claim(out, dataset)
        # Until a data set was whole once, mending its files is what one does; afterwards a change has to be said.
        accept_changes = accept_changes or not was_complete(out)

        def examine(meanings: LabelMeanings | None) -> list[Examined]:
            work = partial(pack_case, dataset=dataset, out=out, meanings=meanings, accept_changes=accept_changes)
            return list(_in_threads(work, layout.sources, workers, progress))

        return _prepare(dataset, out, layout, meanings_file, accept_proposal, examine)


def _prepare(
    dataset: Path,
    out: Path,
    layout: Layout,
    meanings_file: Path | None,
    accept_proposal: bool,
    examine: Callable[[LabelMeanings | None], list[Examined]],
) -> PreparedDataset:
    problems, notes = list(layout.problems), list(layout.notes)
    path = meanings_file or dataset / FILE
    meanings: LabelMeanings | None = None
    if meanings_file is not None or path.is_file():
        try:
            meanings = read_meanings(path)
        except UserError as error:
            problems.append(str(error))
    results = examine(meanings)
    problems += [problem for result in results for problem in result.problems]
    if meanings is None and not path.is_file():
        meanings = _proposed_meanings(dataset, out, results, problems, accept_proposal)
        notes.append("the meanings of the label values were proposed by prepare and accepted with --accept-proposal")
        results = examine(meanings)
        problems += [problem for result in results for problem in result.problems]
    cases = tuple(result.case for result in results if result.case is not None)
    problems += _across(cases)
    if problems or meanings is None:
        raise DatasetProblems(dataset, problems)
    mended = [result.case.id for result in results if result.mended and result.case is not None]
    if mended:
        notes.append(f"packed again, since a packed file was not what had been written: {', '.join(mended)}")
    notes += [*_regrouped(out, cases), *_remarkable(cases), *_sizes(cases, meanings)]
    _write_manifest(out, dataset, meanings, cases, notes)
    _remove_stale(out, cases)
    return PreparedDataset.open(out)


def check(dataset: Path, out: Path) -> tuple[PreparedDataset, tuple[str, ...]]:
    """Compare source files and packed files with the hashes in the manifest.

    Returns the prepared data set, and one message for each file that changed, is missing or is new.
    """
    prepared = PreparedDataset.open(out)
    layout = read_layout(Path(dataset))
    messages: list[str] = list(layout.problems)
    now = {source.id for source in layout.sources}
    for case in prepared.cases:
        if case.id not in now:
            messages.append(f"case {case.id} is in the manifest, its files are not in {dataset}")
        messages += changed_sources(case, Path(dataset))
        for part, packed in case.packed.items():
            path = prepared.path(case.id, part)
            if not path.is_file() or sha256_of(path) != packed.sha256:
                messages.append(f"{path} is not what prepare wrote: run prepare again, which packs it anew")
    known = {case.id for case in prepared.cases}
    messages += [f"case {case_id} is new, not yet prepared: run prepare again" for case_id in sorted(now - known)]
    return prepared, tuple(messages)


def _refuse_place(out: Path, dataset: Path) -> None:
    if out.resolve() == dataset.resolve():
        raise UserError(f"--out is the data set's own folder {out}: choose another one")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder for the prepared data set")


def _claim(out: Path, dataset: Path) -> None:
    """Mark the folder as this data set's, or refuse it."""
    marker, source = out / SOURCE, str(dataset.resolve())
    if marker.is_file():
        try:
            holds = parse_json(marker.read_bytes(), marker, "")["dataset"]
        except (UserError, OSError, KeyError, TypeError):
            holds = "an unreadable " + SOURCE
        if holds != source:
            raise UserError(
                f"{out} holds another data set, prepared from {holds}; asked for {source}: choose another --out, "
                "or remove the folder"
            )
        return
    if any(not path.name.startswith(".lock-") for path in out.iterdir()):
        raise UserError(f"{out} is not empty and was not written by prepare: choose another --out")
    write_atomically(marker, json.dumps({"dataset": source}, indent=1))


def _in_threads(
    work: Callable[[RawCase], Examined], sources: Sequence[RawCase], workers: int, progress: Progress
) -> Iterator[Examined]:
    """Results in the order of the sources; progress in the order of completion."""
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, len(sources) or 1)))
    try:
        futures = {pool.submit(work, source): source for source in sources}
        for done, future in enumerate(as_completed(futures), start=1):
            if future.exception() is None:
                progress(futures[future].id, done, len(sources))
        yield from (future.result() for future in futures)
    finally:
        pool.shutdown(cancel_futures=True)


def _proposed_meanings(
    dataset: Path, out: Path, results: Sequence[Examined], problems: list[str], accept: bool
) -> LabelMeanings:
    """The accepted proposal, or an error that shows what was found and what to do."""
    found = [result.values for result in results if result.values is not None]
    values: Counter[int] = Counter()
    for counts in found:
        values.update(counts)
    if not values:
        raise DatasetProblems(dataset, [*problems, f"{dataset / FILE} is missing, and no label could be read"])
    text = proposal_text(values)
    proposal, reason = propose(values)
    if accept and proposal is not None:
        return proposal
    target = out / PROPOSAL
    write_atomically(target, text)
    fix = f"look at a few slices, correct it, save it as {dataset / FILE} (or pass --meanings FILE) and prepare again"
    fix += ", or pass --accept-proposal" if proposal is not None else ""
    refused = " (--accept-proposal cannot help: there is no proposal)" if accept else ""
    message = (
        f"{dataset / FILE} is missing: it declares what the label values mean. Found over "
        f"{counted(len(found), 'label file')}:\n"
        f"{_histogram(values)}\n  {reason}{refused}.\n  Written to {target}:\n{indent(text.rstrip(), '    ')}\n"
        f"  To go on: {fix}"
    )
    raise DatasetProblems(dataset, [*problems, message])


def _histogram(values: Mapping[int, int]) -> str:
    total = sum(values.values())
    return "\n".join(f"    value {value:>5}: {n:>14,} voxels {n / total:8.3%}" for value, n in sorted(values.items()))


def _across(cases: Sequence[Case]) -> list[str]:
    """Problems that only show when all cases are seen together."""
    kinds = Counter(case.dtype for case in cases)
    if len(kinds) < 2:
        return []
    usual = kinds.most_common(1)[0][0]
    return [
        f"{case.image_source} holds {case.dtype}, {kinds[usual]} of {counted(len(cases), 'image')} hold {usual}: "
        f"convert it to {usual} on the same scale"
        for case in cases
        if case.dtype != usual
    ]


def _regrouped(out: Path, cases: Sequence[Case]) -> list[str]:
    """Scrolls that the table has changed since the data set was prepared: folds by scroll hang on them."""
    with suppress(UserError):
        before = {case.id: case.scroll_id for case in PreparedDataset.open(out).cases}
        other = [
            f"{case.id} ({shown(before[case.id])}, now {shown(case.scroll_id)})"
            for case in cases
            if before.get(case.id, case.scroll_id) != case.scroll_id
        ]
        return [f"scrolls have changed in the table since: {some(other)}; folds have to be made again"] if other else []
    return []


def _remarkable(cases: Sequence[Case]) -> list[str]:
    """What is not wrong, but should be known."""
    notes = []
    by_image: dict[str, list[str]] = {}
    for case in cases:
        by_image.setdefault(case.image_sha256, []).append(case.id)
    for same in by_image.values():
        if len(same) > 1:
            notes.append(f"cases {', '.join(same)} have the same image file: in different folds they leak")
    for case in cases:
        if case.empty is not None and (case.empty.values != (0,) or case.scan_voxels < 0.5 * case.voxels):
            notes.append(f"case {case.id}: {in_words(case.empty.values, case.empty.voxels / case.voxels)}")
    lost = [case.id for case in cases if case.scanned_surface < case.surface_voxels]
    if lost:
        notes.append(
            f"some surface is labelled where the scan holds nothing, and is not learned from: {', '.join(lost)}"
        )
    bare = [case.id for case in cases if case.has_label and not case.surface_voxels]
    if bare:
        notes.append(f"cases without any surface: {', '.join(bare)}")
    return notes


def _sizes(cases: Sequence[Case], meanings: LabelMeanings) -> list[str]:
    """What is known of the size of the voxels, where it is more than that all are the same cubes."""
    said = {case.id: case.spacing for case in cases if case.spacing is not None}
    declared = None if meanings.spacing_um is None else Spacing(*meanings.spacing_um)
    if declared is None:
        several = sorted({str(spacing) for spacing in said.values()})
        mixed = [f"the voxels are of {len(several)} sizes: {some(several)}; nothing here resamples"]
        return [*(mixed if len(several) > 1 else []), *not_cubes(said)]
    others = [name for name, spacing in said.items() if not spacing.agrees(declared)]
    notes = (
        [f"spacing_um says {declared}, the files of {some(others)} say otherwise: {said[others[0]]}"] if others else []
    )
    return [*notes, *not_cubes({case.id: declared for case in cases})]


def _write_manifest(
    out: Path, dataset: Path, meanings: LabelMeanings, cases: tuple[Case, ...], notes: Sequence[str]
) -> None:
    record = {
        "version": FORMAT_VERSION,
        "identity": identity_of(meanings, cases),
        "source": os.fspath(dataset),
        "meanings": meanings.to_json(),
        "versions": {"volumen": __version__, **{name: version(name) for name in ("numpy", "tifffile", "imagecodecs")}},
        "notes": list(notes),
        "cases": [case.to_json() for case in cases],
    }
    write_record(out / MANIFEST, record)
    (out / OUTDATED).unlink(missing_ok=True)


def _remove_stale(out: Path, cases: Sequence[Case]) -> None:
    """Remove packed files of cases that are no longer in the data set; they are copies, made by us."""
    kept = {case.id for case in cases}
    for record in (out / RECORDS).glob("*.json"):
        if record.stem not in kept:
            for part in PARTS:
                (out / part / f"{record.stem}.npy").unlink(missing_ok=True)
            record.unlink()
