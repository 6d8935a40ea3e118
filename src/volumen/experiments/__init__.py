"""What a run is worth: scores on held-out volumes, and how far one gets without learning.

Modules are imported by name: `scoring` (masks against the truth), `evaluate` (a run on its held-out volumes),
`baselines` (constants, thresholds and edge filters tuned on the truth).
"""
