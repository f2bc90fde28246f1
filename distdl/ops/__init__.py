"""Differentiable operations on arrays: each gives its result and a function for its gradient."""
