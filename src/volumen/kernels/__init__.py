"""What PyTorch does slowly on a CPU, compiled: pooling with exact gradients, instance norm, a weight gradient.

Of each pair, `X` holds the differentiable functions and `X_loops` the loops that Numba compiles for them.
"""
