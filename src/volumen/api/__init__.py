"""What the command line does, from Python, without printing; `import volumen` offers it all under its own name.

`commands`: prepare, folds, audit, train, evaluate, report. `arrays`: predict and post-process arrays. `records`: what a
run wrote down. Imports stand inside of the functions, so that preparing data does not wait for PyTorch.
"""
