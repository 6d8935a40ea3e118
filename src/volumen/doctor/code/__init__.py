"""The audit of any PyTorch code: its parts are handed over, looked at, and given back bit for bit as they were."""
