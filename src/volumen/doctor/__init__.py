"""The doctor: is this run learning what we want, and if not, why, and what would help?

`findings` is what it says, `audit` what it looks at before a run starts, `autopsy` the arithmetic of an objective.
"""
