"""A known training, written as different programs and people write theirs: to be read back as the same."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """An epoch's figures, with four digits at most, so that every format holds them exactly."""

    train: float
    val: float
    dice: float
    rate: float


Epochs = list[Known]
GREY, RESET = "\x1b[90m", "\x1b[0m"


def known_epochs(chance: random.Random) -> Epochs:
    """A training of a few epochs."""
    return [
        Known(*(chance.randrange(1, 20000) / 10000 for _ in range(2)), chance.randrange(1, 9999) / 10000,
              chance.choice((0.1, 0.01, 0.001, 0.0005, 2.5e-05)))
        for _ in range(chance.randrange(2, 7))
    ]  # fmt: skip


def table(epochs: Epochs, chance: random.Random, first: int) -> str:
    """CSV and its kin: any delimiter, order and names of columns, decimal commas, percentages, columns of noise."""
    delimiter = chance.choice((",", ";", "\t", " | ", "  "))
    comma = delimiter in (";", "\t") and chance.random() < 0.5
    percent = chance.random() < 0.4
    spaced = delimiter != "  "
    names = {
        "epoch": chance.choice(("epoch", "Epoch", "EPOCH", "epoch_number" if spaced else "epoch")),
        "train": chance.choice(("train_loss", "loss/train", "trainLoss", "Train Loss" if spaced else "train-loss")),
        "val": chance.choice(("val_loss", "validation_loss", "valid/loss", "Val Loss" if spaced else "valloss")),
        "dice": chance.choice(("val_dice", "dice", "Validation-Dice", "val/mean_dice")) + "_percent" * percent,
        "rate": chance.choice(("lr", "learning_rate", "lr-Adam", "optimizer/lr")),
        "time": chance.choice(("timestamp", "host", "remark")),
    }
    order = list(names)
    chance.shuffle(order)
    lines = [delimiter.join(names[each] for each in order)]
    for number, each in enumerate(epochs, start=first):
        cells = {
            "epoch": str(number),
            "train": repr(each.train),
            "val": repr(each.val),
            "dice": f"{each.dice * 100:.2f}" if percent else repr(each.dice),
            "rate": repr(each.rate),
            "time": chance.choice(("n1", "12")),
        }
        lines.append(delimiter.join(cells[each].replace(".", ",") if comma else cells[each] for each in order))
        if chance.random() < 0.2:
            lines.append(chance.choice(("", "# a remark")))
    return chance.choice(("", "\ufeff")) + "\n".join(lines) + "\n"


def objects(epochs: Epochs, chance: random.Random, first: int) -> str:
    """JSON: lines, a list or columns; flat or nested; train and validation together or apart."""
    kind = chance.choice(("lines", "list", "columns", "apart", "held"))
    rows: list[dict[str, object]] = []
    for number, each in enumerate(epochs, start=first):
        if kind == "apart":
            rows.append({"epoch": number, "mode": "train", "train_loss": each.train, "lr": each.rate})
            rows.append({"epoch": number, "mode": "val", "val_loss": each.val, "val_dice": each.dice, "best": True})
        elif kind != "columns" and chance.random() < 0.5:
            nested = {"train": {"loss": each.train, "lr": each.rate}, "val": {"loss": each.val, "dice": each.dice}}
            rows.append({"epoch": number, **nested})
        else:
            flat = {"train/loss": each.train, "val/loss": each.val, "val/dice": each.dice, "lr": each.rate}
            rows.append({"epoch": number, "_runtime": 12.5, **flat})
    if kind == "columns":
        return json.dumps({name: [row[name] for row in rows] for name in rows[0]})
    if kind == "held":
        return json.dumps({"best_metric": 0.5, "log_history": rows}, indent=1)
    return json.dumps(rows) if kind == "list" else "\n".join(json.dumps(row) for row in rows)


EPOCHS = ("Epoch {}", "epoch: {}", "[Epoch {}/900]", "Epoch {:03d}", "epoch={}", "Epoch #{}", "ep {}")
COUNTS = ("[{}/900]", "({}/900)", "{}/900")
"""Epochs that nothing calls so."""
PREFIXES = (
    "",
    "2026-01-25 22:07:18,123 - INFO - ",
    "[2026-01-25 22:07:18] ",
    "2026-01-25T22:07:18.5Z INFO: ",
    "INFO:root:",
    "2026-01-25 22:07:18,123 INFO trainer: ",
    "INFO [train.fold_0] ",
    "2026-01-25 22:07:18.123 | INFO     | __main__:train:88 - ",
)


NOISE = (
    "Loaded 314 batches from /data/fold_0 (22,575,329 parameters)",
    "Saved checkpoint of epoch 1 with val loss 9.9",
    "best val loss: 9.1, target loss 0.35",
    "GPU memory 12.5 GB, 3.1 it/s",
    "------------------------------",
    "",
)


def one_line(epochs: Epochs, chance: random.Random, first: int) -> str:
    """All of an epoch on a line, between noise, with colours, units and time stamps."""
    equals = chance.choice((" = ", ": ", "=", " "))
    gap = chance.choice((", ", " | ", " - ", "; "))
    lines = []
    names = EPOCHS if chance.random() < 0.7 else COUNTS
    for number, each in enumerate(epochs, start=first):
        dice = chance.choice((f"{each.dice * 100:.2f}%", repr(each.dice)))
        parts = [
            f"train loss{equals}{each.train!r}",
            f"val loss{equals}{each.val!r}",
            f"val dice{equals}{dice}",
            f"lr{equals}{each.rate!r}",
            f"time{equals}12.3s",
        ]
        chance.shuffle(parts)
        line = f"{chance.choice(PREFIXES)}{chance.choice(names).format(number)}{gap}{gap.join(parts)}"
        lines += [chance.choice(NOISE), f"{GREY}{line}{RESET}" if chance.random() < 0.5 else line]
    return chance.choice(("\n", "\r\n")).join([*lines, ""])


def several_lines(epochs: Epochs, chance: random.Random, first: int) -> str:
    """An epoch over several lines: progress bars, a headline, parts of it below."""
    comma, form = chance.random() < 0.3, chance.randrange(4)
    lines = []
    for number, each in enumerate(epochs, start=first):
        before = chance.choice(PREFIXES)
        bar = "\r".join(
            f"Epoch {number}: {share:3d}%|{'#' * (share // 10):10}| {share}/100 [00:12<00:20, 9.6it/s, loss=7.7]"
            for share in (10, 50, 100)
        )
        if form == 0:
            found = [
                f"{before}Epoch {number} Val - Loss: {each.val!r}",
                f"{before}Epoch {number} Train - Loss: {each.train!r} (lr: {each.rate!r})",
                f"{before}Val Dice: {each.dice!r}",
            ]
        elif form == 1:
            found = [
                f"{before}Epoch {number} ",
                f"{before}Current learning rate: {each.rate!r} ",
                f"{before}train_loss {each.train!r} ",
                f"{before}val_loss {each.val!r} ",
                f"{before}Dice [{each.dice!r}, {each.dice!r}] ",
                f"{before}Epoch time: 12.3 s ",
            ]
        elif form == 2:
            found = [
                f"{before}Epoch {number}",
                f"{before}├── train loss: {each.train!r}",
                f"{before}├── val loss: {each.val!r}",
                f"{before}├── val dice: {each.dice!r}",
                f"{before}└── lr: {each.rate!r}",
            ]
        else:
            found = [
                f"{before}===== Epoch {number} =====",
                f"{before}Train: loss={each.train!r} lr={each.rate!r}",
                f"{before}Validation: loss={each.val!r} dice={each.dice!r}",
            ]
        if comma:
            found = [before + line.removeprefix(before).replace(".", ",") for line in found]
            bar = bar.replace("7.7", "7,7").replace("9.6", "9,6")
        lines += [chance.choice(NOISE), *([bar] if chance.random() < 0.4 else []), *found]
    return "\n".join([*lines, ""])


def loss_tree(epochs: Epochs, chance: random.Random) -> str:
    """Validation losses with their parts below: a Dice term of the validation's Dice, a focal term of its rate."""
    before = chance.choice(PREFIXES)
    branch, last = chance.choice((("├── ", "└── "), ("|-- ", "`-- "), ("├─ ", "└─ "), ("   ", "   "), ("  - ", "  - ")))
    inside = chance.choice(("", "  ", "    "))
    name = chance.choice(("Epoch {} Val Loss: {!r}", "Epoch {}: val_loss={!r}", "[Epoch {}] Validation loss {!r}"))
    lines = []
    for number, each in enumerate(epochs):
        lines += [
            before + name.format(number, each.val),
            f"{before}{inside}{branch}Dice: {each.dice!r}",
            f"{before}{inside}{last}Focal: {each.rate!r}",
        ]
    return "\n".join([*lines, ""])


def markdown(epochs: Epochs, chance: random.Random, first: int) -> str:
    """A table in a page of prose."""
    names = ["Epoch", "Train Loss", "Val Loss", "Val Dice", "LR", "Status"]
    rows = [
        [str(number), repr(each.train), f"**{each.val!r}**", repr(each.dice), repr(each.rate), "better by 0.002"]
        for number, each in enumerate(epochs, start=first)
    ]
    order = list(range(len(names)))
    chance.shuffle(order)
    lines = ["| " + " | ".join(row[each] for each in order) + " |" for row in [names, *rows]]
    rule = "|---" * len(names) + "|"
    return "\n".join(["# A training", "", "It went as follows.", "", lines[0], rule, *lines[1:], ""])


CLOTHES: dict[str, Callable[[Epochs, random.Random, int], str]] = {
    "table": table,
    "objects": objects,
    "one_line": one_line,
    "several_lines": several_lines,
    "markdown": markdown,
}
