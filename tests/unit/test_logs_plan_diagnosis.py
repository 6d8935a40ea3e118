"""Every episode of the plan has the cause that it had, named first and in numbers, however its figures are typed."""

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from volumen.cli.main import run as volumen
from volumen.logs.read import read_log_of
from volumen.monitors.diagnosis import Diagnosis, diagnose
from volumen.monitors.loss_clues import facts_of, scaled
from volumen.monitors.picture import Picture
from volumen.monitors.watching import replay

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "plan-logs"


@dataclass(frozen=True)
class Val:
    """A validation as the plan states it."""

    epoch: int
    total: float
    terms: dict[str, float] = field(default_factory=dict)
    label: float | None = None
    """Share of surface in the labels."""


@dataclass(frozen=True)
class Train:
    """A training epoch's total."""

    epoch: int
    total: float


@dataclass(frozen=True)
class Weights:
    """The objective from here on."""

    of: dict[str, float]


@dataclass(frozen=True)
class Scaled:
    """The learning rate times a factor."""

    factor: float


@dataclass(frozen=True)
class Delta:
    """An improvement that counts."""

    value: float


Statement = Val | Train | Weights | Scaled | Delta


@dataclass(frozen=True)
class Episode:
    """What the plan states, and what is to be said of it."""

    statements: tuple[Statement, ...]
    cause: str
    numbers: tuple[str, ...] = ()
    """That stand in the evidence."""


def terms(dice: float, focal: float, variance: float) -> dict[str, float]:
    return {"dice": dice, "focal": focal, "variance": variance}


FIRST, FIFTH, ELEVENTH = terms(0.4845, 0.1605, 0.9542), terms(0.4425, 0.1806, 0.9702), terms(0.4164, 0.2471, 0.9953)
ESCAPE = Weights({"dice": 0.7, "focal": 0.2, "variance": 0.05, "boundary": 0.05})
V2 = Weights({"dice": 0.4, "focal": 0.25, "boundary": 0.1})
NOISY = ((9, 0.5706, 0.5602), (10, 0.5659, 0.5671), (13, 0.5653, 0.5768), (14, 0.5653, 0.5703), (15, 0.5671, 0.5637))
EPISODES: dict[str, Episode] = {
    "v1-first-epochs": Episode(
        tuple(Val(*each) for each in ((0, 0.5132), (1, 0.5081), (2, 0.4983), (3, 0.5066), (6, 0.5133))), ""
    ),
    "v2-optimized-noise": Episode(
        (V2, Delta(0.002), *(one for epoch, train, val in NOISY for one in (Train(epoch, train), Val(epoch, val)))),
        "threshold_in_noise",
        ("0.002", "0.0053", "0.5602", "0.5768"),
    ),
    "v4-v5-variance": Episode(
        (
            Val(0, 0.6104, FIRST),
            Val(1, 0.6234, {"variance": 0.95}),
            Val(18, 0.5561, {"variance": 0.9876}),
            Val(22, 0.5696, {"variance": 0.9999}),
        ),
        "unreachable_term",
        ("0.950 to 1.000", "0.83"),
    ),
    "dice-worse-than-constant": Episode(
        (Val(0, 0.6104, FIRST, 0.609), Val(5, 0.6286, FIFTH, 0.609), Val(11, 0.6633, ELEVENTH, 0.609)),
        "worse_than_constant",
        ("0.416", "0.242"),
    ),
    "objectives-compared": Episode(
        (
            Weights({"dice": 0.5, "focal": 0.15, "variance": 0.15, "boundary": 0.15}), Val(2, 0.6348),
            V2, Val(9, 0.5602), Val(10, 0.5671),
            Weights({"dice": 0.5, "focal": 0.3, "variance": 0.1, "boundary": 0.05}), Val(18, 0.5561), Val(22, 0.5696),
            ESCAPE, Val(5, 0.6286), Val(11, 0.6633),
        ),
        "objectives_mixed",
        ("4 objectives", "0.5561", "0.6633"),
    ),
    "thirty-fold-rate": Episode(
        (ESCAPE, Scaled(30), Val(5, 0.6286, FIFTH), Val(11, 0.6633, ELEVENTH), Scaled(80)),
        "rate_too_high",
        ("30", "0.6286", "0.6633"),
    ),
}  # fmt: skip
TABULAR = [name for name, one in EPISODES.items() if all(isinstance(each, Val) for each in one.statements)]


def diagnosis_of(path: Path) -> Diagnosis:
    """As `volumen diagnose` comes to it."""
    history = read_log_of(path)
    facts = facts_of(history)
    memory, _ = replay(scaled(history, facts))
    return diagnose(Picture(memory, (), facts))


def check(found: Diagnosis, episode: Episode, text: str) -> None:
    """The cause comes first, and its evidence holds the plan's figures."""
    assert [cause.name for cause in found.causes[:1]] == ([episode.cause] if episode.cause else []), text
    evidence = " ".join(found.causes[0].speaks_for) if found.causes else ""
    assert [number for number in episode.numbers if number not in evidence] == [], text


def test_every_log_is_an_episode():
    assert {path.stem for path in FOLDER.glob("*.log")} == set(EPISODES)


@pytest.mark.parametrize("name", EPISODES)
def test_the_command_names_the_cause_of_each_log(name, capsys):
    assert volumen(["diagnose", str(FOLDER / f"{name}.log"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    causes, episode = found["causes"], EPISODES[name]
    assert [one["name"] for one in causes[:1]] == ([episode.cause] if episode.cause else [])
    assert all(number in " ".join(causes[0]["speaks_for"]) for number in episode.numbers)
    assert episode.cause or found["state"] == "unclear"


def test_the_thing_the_labels_stand_for_is_named_beside_it():
    found = diagnosis_of(FOLDER / "dice-worse-than-constant.log")
    assert "60.9%" in " ".join(next(one for one in found.causes if one.name == "labels_wrong").speaks_for)


NOISE = ("Loaded 314 batches (22,575,329 parameters)", "GPU memory 12.5 GB, 3.1 it/s", "-" * 30, "")
PREFIXES = ("", "2026-01-25 22:07:18,123 - INFO - ", "[2026-01-25 22:07:18] ", "INFO:root:")


def val_lines(one: Val, chance: random.Random, form: int) -> list[str]:
    """A validation and its terms, on a line or as a tree; one program writes one form."""
    sign, gap = chance.choice((": ", " = ", "=")), chance.choice((", ", " | ", "; "))
    head = chance.choice(("Epoch {} Val - Loss{}{}", "epoch {}: val_loss{}{}", "[Epoch {}] validation loss{}{}"))
    first = head.format(one.epoch, sign, one.total)
    if form == 0:
        inside = ", ".join(f"{name}{sign}{value}" for name, value in one.terms.items())
        lines = [f"{first} ({inside})" if inside else first]
    elif form == 1:
        lines = [first + "".join(f"{gap}val {name} loss{sign}{value}" for name, value in one.terms.items())]
    else:
        tree = chance.choice(("  ├── ", "  - ", "    "))
        lines = [first, *(f"{tree}{name.title()}: {value}" for name, value in one.terms.items())]
    if one.label is not None:
        share = chance.choice((f"{100 * one.label:.2f}%", f"{one.label:.4f}"))
        lines.append(f"Epoch {one.epoch} Val - label {chance.choice(('foreground', 'surface'))}: {share}")
    return lines


def spelled(one: Statement, chance: random.Random, form: int) -> list[str]:
    """Lines of a text that state it, one of several ways."""
    if isinstance(one, Val):
        return val_lines(one, chance, form)
    if isinstance(one, Train):
        return [chance.choice(("Epoch {} Train - Loss: {}", "epoch {}: train_loss={}")).format(one.epoch, one.total)]
    if isinstance(one, Weights):
        listed = ", ".join(f"{name}={weight}" for name, weight in one.of.items())
        keyed = ", ".join(f"{name}_weight: {weight}" for name, weight in one.of.items())
        return [chance.choice((f"Loss weights: {listed}", keyed))]
    if isinstance(one, Scaled):
        forms = ("Adaptive intervention: learning rate scaled {}x", "lr boosted {}x", "Learning rate multiplied {}×")
        return [chance.choice(forms).format(one.factor)]
    return [chance.choice(("batch size: 2, min_delta: {}", "min_delta = {}", "min_delta={}")).format(one.value)]


def as_text(statements: Sequence[Statement], chance: random.Random) -> str:
    """Lines between noise, each with what a logger puts before it."""
    form, lines = chance.randrange(3), []
    prefix = chance.choice(PREFIXES) if form < 2 else ""  # what a tree hangs on stands before it
    for one in statements:
        if chance.random() < 0.3:
            lines.append(chance.choice(NOISE))
        lines += [prefix + line for line in spelled(one, chance, form)]
    return chance.choice(("\n", "\r\n")).join([*lines, ""])


def rows_of(statements: Sequence[Statement], chance: random.Random) -> list[dict[str, float]]:
    """A row a validation, its columns named in one of several ways."""
    named, label = chance.choice(("val_{}_loss", "val/{}_loss", "Validation {} Loss")), "label_foreground"
    return [
        {"epoch": one.epoch, named.replace("{}_", "").replace("{} ", ""): one.total}
        | {named.format(name): value for name, value in one.terms.items()}
        | ({} if one.label is None else {label: one.label})
        for one in statements
        if isinstance(one, Val)
    ]


def as_csv(statements: Sequence[Statement], chance: random.Random) -> str:
    rows = rows_of(statements, chance)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    chance.shuffle(columns)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, delimiter=chance.choice(",;\t"))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(statements: Sequence[Statement], chance: random.Random) -> str:
    rows = rows_of(statements, chance)
    return json.dumps(rows) if chance.random() < 0.5 else "\n".join(map(json.dumps, rows))


def as_markdown(statements: Sequence[Statement], chance: random.Random) -> str:
    rows = rows_of(statements, chance)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)]
    return "# A training\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)


TABLES: dict[str, Callable[[Sequence[Statement], random.Random], str]] = {
    "csv": as_csv, "json": as_json, "markdown": as_markdown,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", EPISODES)
def test_the_cause_is_the_same_in_other_words(name, seed, tmp_path):
    text = as_text(EPISODES[name].statements, random.Random(seed))
    (tmp_path / "log").write_bytes(text.encode())
    check(diagnosis_of(tmp_path / "log"), EPISODES[name], text)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", TABULAR)
def test_the_cause_is_the_same_in_a_table(name, table, seed, tmp_path):
    text = TABLES[table](EPISODES[name].statements, random.Random(seed))
    (tmp_path / "log").write_bytes(text.encode())
    check(diagnosis_of(tmp_path / "log"), EPISODES[name], text)
