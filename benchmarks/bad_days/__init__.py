"""What the benchmarks of bad days share: a small world of every file that volumen reads, commands in processes that may
die, damages, and the judgement of what came of them. Public commands and the roles of files are all that is known here.
"""
