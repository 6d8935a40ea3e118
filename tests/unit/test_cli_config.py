"""`volumen config`: what it prints, where, and with which exit code."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from volumen.cli.config import app
from volumen.config.dump import config_hash
from volumen.config.load import load_config
from volumen.config.problems import ConfigError
from volumen.config.schema import Config

RUNNER = CliRunner()


def run(*arguments: str) -> str:
    result = RUNNER.invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    return result.stdout


def test_show_prints_what_can_be_loaded_again(tmp_path: Path) -> None:
    for extra in ((), ("--comments",)):
        text = run("show", "preset:default", "-o", "training.epochs=3", *extra)
        (tmp_path / "c.yaml").write_text(text)
        assert load_config(tmp_path / "c.yaml").config == load_config("preset:default", ["training.epochs=3"]).config


def test_show_origins_names_the_origin_of_every_value() -> None:
    loaded = load_config("preset:default", ["training.epochs=3", "name=" + "x" * 200])
    lines = run(
        "show", "preset:default", "-o", "training.epochs=3", "-o", "name=" + "x" * 200, "--origins"
    ).splitlines()
    assert [line.split()[0] for line in lines] == ["key", *loaded.origins]
    assert [line.split()[-1] for line in lines] == ["from", *loaded.origins.values()]
    assert "x" * 200 in lines[1]


def test_show_json() -> None:
    document = json.loads(run("show", "preset:default", "--json", "--origins"))
    loaded = load_config("preset:default")
    assert Config.model_validate_json(json.dumps(document["config"])) == loaded.config
    assert document["hash"] == loaded.hash
    assert document["origins"] == dict(loaded.origins)
    assert document["sources"] == ["preset:default"]
    assert "origins" not in json.loads(run("show", "preset:default", "--json"))


def test_check_prints_ok_and_the_hash() -> None:
    loaded = load_config("preset:default", ["seed=4"])
    assert run("check", "preset:default", "-o", "seed=4") == f"OK preset:default {config_hash(loaded.config)}\n"


def test_check_raises_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        RUNNER.invoke(app, ["check", "preset:default", "-o", "sede=4", "-o", "seed=x"], catch_exceptions=False)
    assert len(caught.value.problems) == 2


def test_diff_shows_both_sides() -> None:
    lines = run("diff", "preset:default", "preset:default", "-o", "optimiser.kind=sgd").splitlines()
    assert lines[0].split() == ["key", "left", "right", "left", "from", "right", "from"]
    betas = next(line for line in lines if line.startswith("optimiser.betas"))
    assert betas.split() == ["optimiser.betas", "[0.9,", "0.999]", "(absent)", "default"]


def test_diff_calls_out_more_than_one_factor() -> None:
    together = run("diff", "preset:default", "preset:default", "-o", "data.batch=8", "-o", "optimiser.learning_rate=1")
    assert together.splitlines()[-1].startswith("2 factors differ (batch size, learning rate): ")
    alone = run("diff", "preset:default", "preset:default", "-o", "data.batch=8", "-o", "name=other")
    assert "credited" not in alone


def test_diff_of_equal_ones_says_so() -> None:
    assert run("diff", "preset:default", "preset:default") == "no differences\n"
    assert json.loads(run("diff", "preset:default", "preset:default", "--json")) == []


def test_diff_json_leaves_out_what_is_absent() -> None:
    found = {
        d["key"]: d
        for d in json.loads(run("diff", "preset:default", "preset:default", "-o", "optimiser.kind=sgd", "--json"))
    }
    assert "right" not in found["optimiser.betas"]
    assert found["optimiser.momentum"]["right"] == 0.99


def test_schema_table_and_json() -> None:
    assert run("schema").count("\n") > 100
    lines = run("schema", "--key", "training").splitlines()
    assert all(line.startswith("training") for line in lines[1:])
    assert json.loads(run("schema", "--json"))["title"] == "Config"
    assert {row["key"] for row in json.loads(run("schema", "--json", "--key", "seed"))} == {"seed"}


def test_in_a_terminal_the_table_is_folded_and_brackets_are_no_markup() -> None:
    code = (
        "import sys\nsys.stdout.isatty = lambda: True\nfrom volumen.cli.config import app\n"
        "app(['show', 'preset:default', '--origins'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"COLUMNS": "60", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert any("[64, 64, 64]" in line for line in lines)
    assert max(map(len, lines)) == 60


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom volumen.cli.config import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy', 'numba', 'pydantic', 'ruamel.yaml'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == "[]\n"
    for command in ("show", "check", "diff", "schema"):
        assert command in done.stdout
