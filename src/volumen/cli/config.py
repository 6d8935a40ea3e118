"""`volumen config`: show, check, compare and explain configurations."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from volumen.cli.options import ConfigSource, Json, Setting
from volumen.system.output import say

app = typer.Typer(
    help="Show, check, compare and explain configurations.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def show(
    source: ConfigSource,
    override: Setting = None,
    origins: Annotated[bool, typer.Option("--origins", help="A table of every value and where it comes from.")] = False,
    comments: Annotated[bool, typer.Option("--comments", help="Explain each key above it.")] = False,
    as_json: Json = False,
) -> None:
    """Print the whole configuration: defaults, `base:` files and overrides resolved."""
    from volumen.config.dump import config_values, dump_config
    from volumen.config.load import load_config
    from volumen.files import strict_json

    loaded = load_config(source, override or ())
    if as_json:
        document = {"config": config_values(loaded.config), "hash": loaded.hash, "sources": loaded.sources}
        _print_json(strict_json(document | ({"origins": dict(loaded.origins)} if origins else {})))
    elif origins:
        from volumen.config.describe import value_text
        from volumen.config.dump import flat_values

        flat = flat_values(loaded.config)
        rows = [(key, value_text(value), loaded.origins[key]) for key, value in flat.items()]
        _print_table(("key", "value", "from"), rows)
    else:
        say(dump_config(loaded.config, comments=comments), end="")


@app.command()
def check(source: ConfigSource, override: Setting = None) -> None:
    """Print OK and the configuration's hash, or every mistake in it (exit code 2)."""
    from volumen.config.load import load_config

    loaded = load_config(source, override or ())
    say(f"OK {source} {loaded.hash}")


@app.command()
def diff(
    left: ConfigSource,
    right: Annotated[str, typer.Argument(help="Another one.")],
    override: Annotated[
        list[str] | None, typer.Option("--override", "-o", help="Set one value in the right one. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print every key on which two configurations differ, and where each value comes from."""
    from volumen.config.compare import ABSENT, confounded, diff_configs, factors_of
    from volumen.config.describe import value_text
    from volumen.config.load import load_config
    from volumen.files import strict_json

    differences = diff_configs(load_config(left), load_config(right, override or ()))
    if as_json:
        _print_json([strict_json(difference.as_dictionary()) for difference in differences])
        return
    if not differences:
        say("no differences")
        return

    def cell(value: Any) -> str:
        return "(absent)" if value is ABSENT else value_text(value)

    rows = [(d.key, cell(d.left), cell(d.right), d.left_origin or "", d.right_origin or "") for d in differences]
    _print_table(("key", "left", "right", "left from", "right from"), rows)
    said = confounded(factors_of(differences))
    if said:
        say(said)


@app.command()
def schema(
    key: Annotated[str | None, typer.Option("--key", help="Only this key and what is inside it.")] = None,
    as_json: Json = False,
) -> None:
    """Print every key with its type, default, range and meaning."""
    from volumen.config.document import schema_rows
    from volumen.config.schema import Config

    rows = schema_rows(Config, key)
    if as_json:
        _print_json(Config.model_json_schema() if key is None else [asdict(row) for row in rows])
        return
    header = ("key", "type", "default", "range", "only when", "description")
    cells = [(r.key, r.type, "required" if r.required else r.default, r.range, r.when, r.description) for r in rows]
    _print_table(header, cells)


def _print_json(document: Any) -> None:
    say(json.dumps(document, indent=2, allow_nan=False))


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A framed table in a terminal; elsewhere aligned columns, uncoloured and never cut."""
    lines = [[" ".join(cell.split()) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
        for line in (header, *lines):
            say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    from rich.table import Table

    from volumen.reporting.console import PlainConsole

    table = Table()
    for name in header:
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(*line)
    PlainConsole().print(table)
