"""The command line: thin, one module a group of commands. `volumen.cli.main.run` runs one in-process."""
