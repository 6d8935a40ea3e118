"""What people look at: the terminal while a run goes on, tables of an evaluation, slices, and the report.

Each module reads files or plain results and is imported by name: `terminal`, `tables`, `images`, `curves`, `html`.
"""
