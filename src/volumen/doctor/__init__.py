"""The doctor: is this run learning what we want, and if not, why, and what would help?

Each question has one place, in which what is measured and the check that judges it stand side by side: `labels`,
`objective`, `settings`, `data`, `start`, `protocol`, `learning_rate`, `cost`. `findings` is what is said, `context`
what every check looks at, and `audit.CHECKS` the table of all checks.
"""
