"""What the process that workers are forked from imports, once; for these seconds nothing else sees its parent go."""

from volumen.system.orphans import orphans_end

with orphans_end():
    import volumen.data.sampling  # noqa: F401
