"""Programs that people follow their experiments in: a run's curves, slices and findings, sent there as it goes on.

Whatever a tracker does or fails to do, the run is the same: each stands behind a thread and a bounded queue
(`background`).
"""
