"""Kernels: arrays in, arrays out. Each compiled kernel stands beside the plain NumPy function that defines it."""
