"""Changes in place between forward and backward: found, or harmless."""

import numpy as np
import pytest

import distdl
from distdl import autograd, optim
from distdl.core.errors import GraphError
from tests.autograd.leaf import leaf

CHANGES = {
    "operator": lambda x: x.__iadd__(1.0),
    "item": lambda x: x.__setitem__(0, 9.0),
    "data": lambda x: setattr(x, "data", np.ones(1)),
    "data operator": lambda x: setattr(x, "data", x.data + 1),
    "through a view": lambda x: x.reshape(1, 1).__iadd__(1.0),
    "through detach": lambda x: x.detach().__iadd__(1.0),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_changes_that_corrupt_a_gradient_are_found(change):
    """What multiply needs was changed before backward(): the error names the operation."""
    x = leaf(2.0)
    y = x * x
    with distdl.no_grad():
        CHANGES[change](x)
    with pytest.raises(GraphError, match="`multiply` needs was changed in place"):
        y.backward()


def test_changes_of_a_result_are_found():
    """exp reads its own result in backward()."""
    x = leaf(2.0)
    y = x.exp()
    with distdl.no_grad():
        y += 1
    with pytest.raises(GraphError, match="`exp`"):
        y.backward()


def test_changes_that_nobody_reads_do_no_harm():
    """add needs neither of its inputs."""
    x = leaf(2.0)
    y = x + x
    with distdl.no_grad():
        x += 1
    y.backward()
    assert x.grad.tolist() == [2]


def test_a_step_between_forward_and_backward_is_found():
    """An optimizer that steps between has changed the weights."""
    w = autograd.Parameter([1.0])
    optimizer = optim.SGD([w], lr=0.1)
    (w * w).backward()
    late = w * w
    optimizer.step()
    with pytest.raises(GraphError, match="changed in place"):
        late.backward()


def test_detect_anomaly_finds_writes_behind_the_tensor():
    """Within detect_anomaly() even x.numpy()[0] = 5 is found, and NaN gradients are named."""
    x = leaf(2.0)
    with distdl.detect_anomaly():
        y = x * x
        z = (x - 2.0) * 1.0
    x.numpy()[0] = 5
    with pytest.raises(GraphError, match="written to after `multiply`"):
        y.backward()
    with pytest.raises(GraphError, match="NaN"):
        z.backward([np.nan])


def test_tensors_of_one_array_count_changes_together():
    """A tensor made of a tensor, and the result of an operation that hands its input on, are watched as one."""

    @distdl.op
    def same(x):
        return x, lambda dy: dy

    for alias in (distdl.tensor, same, lambda x: x.broadcast_to(2, 1)[0], lambda x: x[:]):
        x = leaf(2.0)
        y, other = x * x, alias(x)
        with distdl.no_grad():
            if other.data.flags.writeable:
                other += 1
            else:
                x += 1
        with pytest.raises(GraphError, match="changed in place"):
            y.backward()
        assert (other.data == x.data).all()


def test_detect_anomaly_finds_writes_to_plain_arrays():
    """Arrays that are no tensors, masks and indices too, are watched."""
    factor, mask, index = np.ones(2), np.array([True, False]), np.array([0, 0])
    for use, array in (
        (lambda x: x * factor, factor),
        (lambda x: distdl.where(mask, x, 1.0), mask),
        (lambda x: x[index], index),
        (lambda x: x.reshape(1, 2)[0, index], index),
    ):
        x = leaf(1.0, 2.0)
        with distdl.detect_anomaly():
            y = use(x).sum()
        array[1] = not array[1]
        with pytest.raises(GraphError, match="written to after"):
            y.backward()


def test_detect_anomaly_names_the_operation_that_made_nan():
    """0 / 0 in the gradient of sqrt is found there, though nothing lies behind it but a leaf."""
    x = leaf(0.0)
    with distdl.detect_anomaly():
        y = x.sqrt() * 0.0
    with np.errstate(invalid="ignore"), pytest.raises(GraphError, match="`sqrt` returned NaN"):
        y.backward()
    assert x.grad is None


def test_nothing_is_found_where_nothing_is_wrong():
    """detect_anomaly() lets a sound graph pass, and gives the gradients that there are without it."""
    gradients = []
    for mode in (distdl.detect_anomaly, distdl.enable_grad):
        x = leaf(1.0, 2.0)
        with mode():
            (x[[0, 0]] * x.exp() + distdl.where(np.array([True, False]), x, 0.0)).sum().backward()
        gradients.append(x.grad.tolist())
    assert gradients[0] == gradients[1]
