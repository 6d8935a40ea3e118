"""The configuration of a run: its schema, how it is read, written, compared and explained."""
