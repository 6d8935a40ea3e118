"""The configuration of a run: its schema, how it is read, written, compared and explained."""

from volumen.config.compare import ABSENT, Difference, diff_configs
from volumen.config.describe import value_text
from volumen.config.document import schema_rows
from volumen.config.dump import config_hash, config_values, dump_config, flat_values
from volumen.config.inheritance import preset_names
from volumen.config.load import LoadedConfig, load_config, load_model, override_config
from volumen.config.problems import ConfigError
from volumen.config.schema import Config
from volumen.config.stamp import dump_resolved

__all__ = [
    "ABSENT",
    "Config",
    "ConfigError",
    "Difference",
    "LoadedConfig",
    "config_hash",
    "config_values",
    "diff_configs",
    "dump_config",
    "dump_resolved",
    "flat_values",
    "load_config",
    "load_model",
    "override_config",
    "preset_names",
    "schema_rows",
    "value_text",
]
