"""A diagnosis as a letter to a tired person: what is wrong, why and how sure, what to do next, what it is not."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from volumen.monitors.causes import CAUSES
from volumen.monitors.diagnosis import HEALTHY, SICK, Cause, Diagnosis
from volumen.monitors.picture import Picture
from volumen.reporting.words import number, words

SURE = ((0.6, "very likely"), (0.35, "likely"), (0.0, "possible"))
STATES = {
    HEALTHY: "healthy: nothing speaks for a fault",
    SICK: "something is wrong",
    "unclear": "I cannot tell yet",
}
STYLES = {HEALTHY: "green", SICK: "bold red", "unclear": "yellow"}
MOST_CAUSES, MOST_UNLIKELY = 3, 4


@dataclass(frozen=True)
class Paragraph:
    """A cause as it is told."""

    title: str
    sure: str
    speaks_for: tuple[str, ...]
    speaks_against: tuple[str, ...]
    remedy: str
    command: str


@dataclass(frozen=True)
class Letter:
    """What a person is told."""

    name: str
    state: str
    heading: str
    symptoms: tuple[str, ...]
    causes: tuple[Paragraph, ...]
    unlikely: tuple[str, ...]
    remarks: tuple[str, ...]
    missing: tuple[str, ...]
    numbers: str


def letter_of(found: Diagnosis, picture: Picture, name: str, *, ours: bool = True) -> Letter:
    """The letter about a training.

    Args:
        found: What it has.
        picture: The numbers behind it.
        name: What the training is called, a run folder or a log.
        ours: Whether that is a run folder, which commands can be given.
    """
    places = {"CONFIG": f"{name}/config.yaml", "RUN": name} if ours else {}
    return Letter(
        name=name,
        state=found.state,
        heading=STATES[found.state],
        symptoms=found.symptoms,
        causes=tuple(_paragraph(cause, places) for cause in found.causes[:MOST_CAUSES]),
        unlikely=tuple(_unlikely(cause) for cause in found.unlikely[:MOST_UNLIKELY]),
        remarks=found.remarks,
        missing=found.missing,
        numbers="; ".join(_numbers(picture)),
    )


def _paragraph(cause: Cause, places: dict[str, str]) -> Paragraph:
    text = CAUSES[cause.name]
    command = " ".join(_placed(word, places) for word in text.command.split(" "))
    sure = next(word for least, word in SURE if cause.confidence >= least)
    return Paragraph(text.title, sure, cause.speaks_for, cause.speaks_against, text.remedy, command)


def _placed(word: str, places: dict[str, str]) -> str:
    return places.get(word, word)


def _unlikely(cause: Cause) -> str:
    return f"not that {CAUSES[cause.name].title}: {'; '.join(cause.speaks_against)}"


def _numbers(picture: Picture) -> Iterator[str]:
    """The figures that everyone asks for first."""
    memory = picture.memory
    if memory.metrics:
        name = words(memory.metric_name or "metric")
        yield f"{name} {picture.metric:.3f} (best {picture.metric_best:.3f}, noise {memory.noise:.4f})"
    known = [("training", picture.r), ("held out", picture.r_held_out)]
    said = ", ".join(f"{where} {number(value, '.2f')}" for where, value in known if not math.isnan(value))
    if said:
        yield f"progress r: {said} (1 is a constant's, 0 the least possible)"
    if not math.isnan(picture.share_ratio):
        yield f"surface predicted / true {picture.share_ratio:.2f}"
    if picture.updates:
        yield f"a step changes the weights by {picture.update:.1e} of their size"
    if not math.isnan(picture.aligned):
        yield f"cosine of successive gradients {picture.aligned:.2f}"


def print_letter(letter: Letter, console: Console) -> None:
    """Print it, nothing cut off."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, soft_wrap=True)

    say(f"{letter.name}: {letter.heading}", STYLES[letter.state])
    for symptom in letter.symptoms:
        say(f"  {symptom}")
    for place, cause in enumerate(letter.causes, 1):
        say("")
        say(f"{place}. {cause.title} ({cause.sure})", "bold")
        for name, texts in (("for", cause.speaks_for), ("against", cause.speaks_against)):
            for text in texts:
                say(f"   {name:8}{text}")
        say(f"   do      {cause.remedy}")
        say(f"           {cause.command}")
    if letter.symptoms and not letter.causes:
        say("")
        say("I cannot tell why.", "bold")
    for title, texts in (
        ("What it is not", letter.unlikely), ("Noticed", letter.remarks), ("What would tell more", letter.missing),
    ):  # fmt: skip
        if texts:
            say("")
            say(title, "bold")
            for text in texts:
                say(f"  {text}")
    if letter.numbers:
        say("")
        say(letter.numbers, "dim")
