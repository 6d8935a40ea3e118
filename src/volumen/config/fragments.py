"""Post-processing on its own: the presets that come with the package, and files such as `volumen tune` writes."""

from pathlib import Path

from volumen.config.base import Section
from volumen.config.dump import canonical, config_values
from volumen.config.load import load_model
from volumen.config.postprocessing import Postprocessing
from volumen.config.source import is_file
from volumen.errors import UserError

FOLDER = Path(__file__).parent / "presets" / "postprocessing"


class PostprocessingFile(Section):
    """A file with nothing but this section."""

    postprocessing: Postprocessing


def postprocessing_names() -> tuple[str, ...]:
    """The presets of post-processing."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_postprocessing(source: str) -> Postprocessing:
    """Post-processing from a preset's name or a YAML file with the section `postprocessing`.

    Raises:
        UserError: Neither a preset nor a file.
        ConfigError: With every mistake in the file and its line.
    """
    path = FOLDER / f"{source}.yaml" if source in postprocessing_names() else Path(source)
    if not is_file(path):
        known = ", ".join(postprocessing_names())
        raise UserError(f"there is no post-processing {source!r}: give a YAML file, or one of the presets {known}")
    return load_model(PostprocessingFile, path).config.postprocessing


def postprocessing_override(source: str | None) -> tuple[str, ...]:
    """The same as an override of a run's configuration; none for None."""
    if source is None:
        return ()
    values = config_values(load_postprocessing(source))
    return (f"postprocessing.steps={canonical(values['steps'])}",)
