"""Whatever is printed reaches its reader: any letters, any encoding, and a reader who leaves."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.reporting.console import console_for, plain_table
from volumen.system.output import Output, counted, plural

ENCODINGS = ("ascii", "latin-1", "cp437", "cp1252", "utf-8")


def output(encoding: str) -> tuple[Output, io.BytesIO]:
    stream = io.BytesIO()
    return Output(stream, encoding, "volumen.spelled", "\n"), stream


@given(st.text(st.characters()), st.sampled_from(ENCODINGS))
def test_any_text_goes_through_any_encoding(text: str, encoding: str) -> None:
    written, stream = output(encoding)
    written.write(text)
    written.flush()
    letters = stream.getvalue().decode(encoding)
    kept = "".join(letter for letter in text if letter.encode(encoding, "ignore"))
    read = iter(letters)
    assert all(letter in read for letter in kept)  # nothing that it has is lost, in this order


def test_signs_have_their_usual_spelling() -> None:
    written, stream = output("ascii")
    written.write("+0.1 ± 0.2 · é \udcff …")
    written.flush()
    assert stream.getvalue() == b"+0.1 +- 0.2 . \\xe9 \\udcff ..."


@given(st.text(st.characters()), st.sampled_from(ENCODINGS))
def test_a_table_of_any_text_goes_through_any_encoding_and_brackets_stay(text: str, encoding: str) -> None:
    written, stream = output(encoding)
    table = plain_table(f"[bold]{text}", ("name", f"[red]{text}"))
    table.add_row("v[red]1", text)
    console_for(written).print(table)
    written.flush()
    assert b"v[red]1" in stream.getvalue()
    assert b"\x1b" not in stream.getvalue()


def test_work_goes_on_when_its_reader_has_left() -> None:
    code = """
import sys
from pathlib import Path
from volumen.system.output import open_output
open_output()
for number in range(100_000):
    print(number)
sys.stdout.flush()
print("done", file=sys.stderr)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b"done\n"
    assert process.returncode == 0


@pytest.mark.parametrize("redirection", ["| head -1", ">&-", "2>&-", "> /dev/null", "| cat"])
def test_a_command_ends_well_wherever_its_output_goes(redirection: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m volumen config show preset:default {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (1, "epoch", "1 epoch"),
        (2, "epoch", "2 epochs"),
        (0, "mask", "0 masks"),
        (1, "mask", "1 mask"),
        (3, "search", "3 searches"),
        (2, "held-out volume", "2 held-out volumes"),
        (2, "process", "2 processes"),
    ],
)
def test_number_and_noun_agree(count: int, noun: str, said: str) -> None:
    assert counted(count, noun) == said


def test_several_probabilities_and_days() -> None:
    assert [plural(noun) for noun in ("probability", "day", "logit", "box", "patch")] == [
        "probabilities", "days", "logits", "boxes", "patches"
    ]  # fmt: skip
    assert counted(1, "mask is", "masks are") == "1 mask is"
    assert counted(2, "mask is", "masks are") == "2 masks are"


def test_a_name_that_is_no_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    name = b"gr\xf6\xdfe"  # latin-1 where UTF-8 is expected
    command = [sys.executable, "-m", "volumen", "phantom", name, "--volumes", "1", "--size", "32", "--scrolls", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(r"error: gr\udcf6\udcdfe is not text in this system's encoding of file names")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
