"""Runs: their folders, checkpoints and records; a run is opened once and handed on."""
