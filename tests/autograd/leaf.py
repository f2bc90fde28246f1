"""A tensor to take gradients of."""

import numpy as np

import distdl


def leaf(*values, dtype=np.float64):
    return distdl.tensor(np.array(values, dtype), requires_grad=True)
