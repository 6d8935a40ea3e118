"""What a run costs: a step by its parts, memory, validation, an epoch and the whole run."""
