"""Predict a volume of 320^3: MONAI's sliding window as shipped, the same with the allocator tuned, and ours.

    ./run bench inference [--run RUN] [--rounds 3]

Network of 8 filters and depth 3, tiles of 128^3, overlap 0.25, no mirroring, the same weights everywhere. Without --run
a network is trained for two minutes first, since only one that has learnt something has a mask worth comparing. The
volume is a real labelled one of the data set, mirrored to 320^3.

Every variant lives in a process of its own. The parent asks each in turn for one volume, round after round; ratios are
medians over the rounds of two times of one round. "Ideal" is the engine alone on the same tiles, fed from memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

TILE, OVERLAP, SIDE = (128, 128, 128), 0.25, 320
NETWORK = ("model.filters=8", "model.depth=3")
PEER, PEER_TUNED = "MONAI, fp32", "MONAI, fp32, tuned allocator"


@dataclass(frozen=True)
class Variant:
    """One way to predict."""

    name: str
    peer: bool
    tuned: bool
    engine: str
    precision: str


VARIANTS = (
    Variant(PEER, True, False, "torch", "fp32"),
    Variant(PEER_TUNED, True, True, "torch", "fp32"),
    Variant("ours, torch, fp32", False, True, "torch", "fp32"),
    Variant("ours, torch, auto", False, True, "torch", "auto"),
    Variant("ours, OpenVINO, auto", False, True, "openvino", "auto"),
)
REFERENCE = "ours, torch, fp32"


def main() -> int:
    """Print both tables; exit code 1 if masks or scores differ by more than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/semi"))
    parser.add_argument("--run", type=Path, help="a run folder of this network; one is trained otherwise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant is not None:
        return _child(VARIANTS[options.variant], options.run, options.folder)
    with tempfile.TemporaryDirectory() as temporary:
        return _compare(options, Path(temporary))


def _compare(options: argparse.Namespace, folder: Path) -> int:
    from volumen.runtime import cpu_description

    print(cpu_description(), flush=True)
    run = options.run or _train(options.dataset, folder)
    _write_volume(run, folder)
    children = [_start(number, run, folder) for number in range(len(VARIANTS))]
    rows: list[list[dict[str, float]]] = [[] for _ in VARIANTS]
    for number in range(options.rounds):
        for place, child in enumerate(children):
            print(f"round {number + 1} of {options.rounds}: {VARIANTS[place].name}", file=sys.stderr, flush=True)
            rows[place].append(_ask(child))
    for child in children:
        _close(child)
    _print_times(rows)
    return _print_masks(folder)


def _train(dataset: Path, folder: Path) -> Path:
    """A network that has learnt for two minutes."""
    prepared, run = folder / "prepared", folder / "run"
    overrides = [part for value in (*NETWORK, f"data.dataset={prepared}") for part in ("-o", value)]
    for arguments in (
        ["prepare", str(dataset), "--out", str(prepared), "--accept-proposal"],
        ["folds", str(prepared)],
        ["train", "preset:default", *overrides, "--fold", "0", "--out", str(run), "--time-budget", "2m"],
    ):
        command = [sys.executable, "-c", "from volumen.cli.main import main; main()", *arguments]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return run


def _write_volume(run: Path, folder: Path) -> None:
    """A held-out volume, mirrored along every axis, normalised, and its label."""
    from volumen.config.load import load_config
    from volumen.data.dataset import PreparedDataset
    from volumen.data.folds import load_folds
    from volumen.data.normalise import normalise

    config = load_config(run / "config.yaml").config
    dataset = PreparedDataset.open(Path(config.data.dataset))
    case = dataset.case(load_folds(config.data.folds, dataset).fold(config.data.fold).validation[0])
    image = normalise(np.asarray(dataset.image(case.id)), case.statistics, config.data.normalisation)
    padding = [(0, SIDE - side) for side in image.shape]
    np.save(folder / "image.npy", np.pad(image, padding, mode="symmetric"))
    np.save(folder / "label.npy", np.pad(np.asarray(dataset.label(case.id)), padding, mode="symmetric"))


def _child(variant: Variant, run: Path, folder: Path) -> int:
    """Predict the volume once for every line of input."""
    from volumen.runtime import proc_status, tune_allocator

    if variant.tuned:
        tune_allocator()
    predict, tile = _peer(run) if variant.peer else _ours(variant, run)
    image = np.load(folder / "image.npy")
    tile(image)  # warm, compiled
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        logits = predict(image)
        seconds, used = time.perf_counter() - wall, time.process_time() - cpu
        np.save(folder / f"{VARIANTS.index(variant)}.npy", logits)
        began = time.perf_counter()
        for _ in range(3):
            tile(image)
        alone = (time.perf_counter() - began) / 3
        print(
            json.dumps({"seconds": seconds, "cpu": used, "tile": alone, "peak": proc_status("VmHWM")["VmHWM"]}),
            flush=True,
        )
    return 0


def _peer(run: Path) -> tuple[Any, Any]:
    import torch
    from monai.inferers import sliding_window_inference

    from volumen.models import set_plain
    from volumen.runs.run import load_for_inference

    model, _ = load_for_inference(run)
    set_plain(model, True)  # PyTorch's own operations, channels first
    model = model.to(memory_format=torch.contiguous_format)

    def predict(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            whole = torch.from_numpy(image)[None, None]
            return sliding_window_inference(whole, TILE, 1, model, overlap=OVERLAP)[0, 0].numpy()

    def tile(image: np.ndarray) -> None:
        with torch.inference_mode():
            model(torch.from_numpy(np.ascontiguousarray(image[:128, :128, :128]))[None, None])

    return predict, tile


def _ours(variant: Variant, run: Path) -> tuple[Any, Any]:
    import torch

    from volumen.inference.predictor import Predictor
    from volumen.runs.run import load_for_inference
    from volumen.runtime import choose_precision

    model, _ = load_for_inference(run)
    precision = choose_precision(variant.precision, "cpu")  # type: ignore[arg-type]
    predictor = Predictor(
        model,
        tile=TILE,
        overlap=OVERLAP,
        device="cpu",
        precision=precision,
        engine=variant.engine,  # type: ignore[arg-type]
    )
    tiles = predictor.plan((SIDE,) * 3)
    print(f"{variant.name}: {precision.name}, {len(tiles)} tiles", file=sys.stderr)
    first = np.random.default_rng(0).normal(size=TILE).astype(np.float32)
    predictor.logits(first)  # the engine exists from here on
    images = torch.from_numpy(first)[None, None].to(memory_format=precision.memory_format)

    def tile(image: np.ndarray) -> None:
        with torch.inference_mode():
            predictor.engine(images)

    return predictor.logits, tile


def _start(number: int, run: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--variant", str(number), "--run", str(run), "--folder", str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(child: subprocess.Popen[str]) -> dict[str, float]:
    stdin, stdout = _pipe(child.stdin), _pipe(child.stdout)
    stdin.write("go\n")
    stdin.flush()
    answer = stdout.readline()
    if not answer:
        raise RuntimeError(f"a variant died with exit code {child.wait()}")
    found: dict[str, float] = json.loads(answer)
    return found


def _close(child: subprocess.Popen[str]) -> None:
    _pipe(child.stdin).close()
    child.wait()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _print_times(rows: list[list[dict[str, float]]]) -> None:
    from volumen.inference.tiles import plan_tiles

    names = [variant.name for variant in VARIANTS]
    peer, tuned = rows[names.index(PEER)], rows[names.index(PEER_TUNED)]
    count = len(plan_tiles((SIDE,) * 3, TILE, OVERLAP))
    print(f"\n{SIDE}^3, {count} tiles of {TILE[0]}^3; medians over {len(peer)} rounds\n")
    print("| | seconds | CPU s | faster than MONAI | than MONAI tuned | share of the ideal | peak MB |")
    print("| --- " * 7 + "|")
    for name, own in zip(names, rows, strict=True):
        faster = [
            statistics.median(a["seconds"] / b["seconds"] for a, b in zip(one, own, strict=True))
            for one in (peer, tuned)
        ]
        share = statistics.median(count * one["tile"] / one["seconds"] for one in own)
        cells = (
            name,
            f"{statistics.median(one['seconds'] for one in own):.2f}",
            f"{statistics.median(one['cpu'] for one in own):.1f}",
            *(f"{ratio:.2f}x" for ratio in faster),
            f"{share:.0%}",
            f"{max(one['peak'] for one in own) / 1e6:.0f}",
        )
        print("| " + " | ".join(cells) + " |")


def _print_masks(folder: Path) -> int:
    """Masks and scores against those of our own float32."""
    from volumen.metrics import leaderboard

    label = np.load(folder / "label.npy")
    masks = [(np.load(folder / f"{number}.npy") > 0).astype(np.uint8) for number in range(len(VARIANTS))]
    names = [variant.name for variant in VARIANTS]
    expected = masks[names.index(REFERENCE)]
    base = leaderboard(expected, label).score
    print(f"\nmasks against {REFERENCE!r} (leaderboard {base:.4f})\n")
    print("| | voxels that agree | leaderboard | change |\n| --- | --- | --- | --- |")
    wrong = False
    for variant, mask in zip(VARIANTS, masks, strict=True):
        agree, score = float((mask == expected).mean()), leaderboard(mask, label).score
        print(f"| {variant.name} | {agree:.4%} | {score:.4f} | {score - base:+.4f} |")
        wrong |= not variant.peer and (agree < 0.995 or abs(score - base) >= 0.002)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
