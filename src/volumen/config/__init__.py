"""The configuration of a run: its schema, how it is read, written, compared and explained."""

from volumen.config.compare import ABSENT, Difference, diff_configs
from volumen.config.describe import value_text
from volumen.config.document import KeyRow, schema_rows
from volumen.config.dump import config_hash, config_values, dump_config, dump_yaml, flat_values
from volumen.config.inheritance import preset_names
from volumen.config.load import LoadedConfig, load_config, load_model, override_config
from volumen.config.problems import DEFAULT, OVERRIDE, ConfigError, Problem
from volumen.config.schema import Config
from volumen.config.source import plain_yaml, read_yaml
from volumen.config.stamp import dump_resolved

__all__ = [
    "ABSENT",
    "DEFAULT",
    "OVERRIDE",
    "Config",
    "ConfigError",
    "Difference",
    "KeyRow",
    "LoadedConfig",
    "Problem",
    "config_hash",
    "config_values",
    "diff_configs",
    "dump_config",
    "dump_resolved",
    "dump_yaml",
    "flat_values",
    "load_config",
    "load_model",
    "override_config",
    "plain_yaml",
    "preset_names",
    "read_yaml",
    "schema_rows",
    "value_text",
]
