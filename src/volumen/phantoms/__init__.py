"""Phantom scrolls: synthetic volumes with exact labels, for demonstrations and tests."""
