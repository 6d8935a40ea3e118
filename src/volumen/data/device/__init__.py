"""Patches made where the network runs: volumes in the device's memory, cut, turned, warped and varied there."""
