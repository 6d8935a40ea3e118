"""Write the pages that are made from code: `docs/configuration.md`.

`tests/unit/test_documentation.py` fails while a page says something else than the code.
"""

from pathlib import Path

from volumen.config import Config, preset_names, schema_document
from volumen.files import write_atomically

PAGE = Path(__file__).parent / "configuration.md"

INTRODUCTION = """# Configuration

*Made from the schema by `./run docs`; do not edit.*

A configuration is a YAML file. Every key is read or is an error; all errors are reported at once, with file, line and
the nearest known key. `base:` names a file or `preset:NAME` to start from, `-o key=value` on the command line comes
last.

```yaml
base: preset:default
name: my-run
data:
  dataset: prepared/semi
  fold: 1
training:
  epochs: 100
```

```
volumen config show my-run.yaml --origins     # every value and where it comes from
volumen config check my-run.yaml              # all errors at once
volumen config diff preset:default my-run.yaml
volumen config schema --key training
```

Where a section has a `kind`, its other keys depend on it; another `kind` starts from that kind's own defaults.

"""


def configuration_page() -> str:
    """The page: introduction, presets, and every key of the schema."""
    presets = ", ".join(f"`preset:{name}`" for name in preset_names())
    return f"{INTRODUCTION}Presets: {presets}.\n\n{schema_document(Config).markdown()}\n"


if __name__ == "__main__":
    write_atomically(PAGE, configuration_page())
    print(f"written: {PAGE}")
