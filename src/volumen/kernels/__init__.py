"""What PyTorch does slowly, as kernels of our own: pooling with exact gradients, instance norm, a weight gradient.

Of each pair, `X` holds the differentiable functions and `X_loops` the loops: compiled by Numba for a CPU, by Triton
(`triton_X`) for a CUDA device.
"""
