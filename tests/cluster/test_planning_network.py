"""Links: by name, changed, and fitted to reductions."""

import pytest

from distdl.cluster.planning.network import (
    NAMED,
    PAYLOAD,
    Link,
    bits_per_second,
    choose,
    fit_between,
    fit_within,
    seconds,
)
from distdl.cluster.planning.traffic import across, barriers
from distdl.core.errors import ArgumentError
from distdl.parallel.profile import Reduction
from tests.cluster.profiles import made, reductions


def test_a_link_is_found_again():
    """From reductions that a link would give, latency is fitted within a tenth, bandwidth within a hundredth."""
    for nodes in (2, 3, 4, 8):

        def taken(nbytes, nodes=nodes):
            traffic = across(nbytes, nodes)
            return traffic.messages * 5e-5 + traffic.sent * 8e-9 + traffic.added * 1e-10

        link = fit_between(made(ranks=nodes, nodes=nodes, between=reductions(taken)))
        assert link.latency == pytest.approx(5e-5, rel=0.1)
        assert link.seconds_per_byte == pytest.approx(8e-9, rel=0.01)
        assert link.burst == 0


def test_a_token_bucket_is_found_again():
    """What passes at once after a pause is a burst, not a faster link."""

    def taken(nbytes):
        traffic = across(nbytes, 2)
        return traffic.messages * 1e-5 + max(traffic.sent - 200_000, 0) * 8e-9 + traffic.added * 1e-10

    link = fit_between(made(between=reductions(taken)))
    assert link.seconds_per_byte == pytest.approx(8e-9, rel=0.01)
    assert link.burst == pytest.approx(200_000, rel=0.05)


def test_memory_of_a_node_is_fitted_apart():
    """It has two barriers, and there is no burst in it."""
    within = reductions(lambda nbytes: barriers(4) * 2e-6 + nbytes * 1e-10)
    link = fit_within(made(ranks=4, nodes=1, within=within))
    assert link.latency == pytest.approx(2e-6, rel=0.1)
    assert link.seconds_per_byte == pytest.approx(1e-10, rel=0.01)
    assert link.burst == 0


def test_what_a_core_does_for_a_byte_is_told_from_waiting():
    """Beside backward() messages and bytes take longer; of a core's time there polling is taken off."""
    between = []
    for nbytes in (4, 1 << 20, 1 << 21):
        messages, beside = (1 if nbytes == 4 else 2), nbytes * 1.5e-8
        beside += messages * 1e-4
        between.append(Reduction(nbytes, nbytes * 1e-8, beside, 0.1 * beside + 3e-10 * nbytes))
    link = fit_between(made(between=between, polling=0.1))
    assert link.handling == pytest.approx(3e-10, rel=0.01)
    assert link.patience == pytest.approx(1e-4, rel=0.01)
    assert link.drag == pytest.approx(1.5, rel=0.01)
    assert link.beside().latency == link.latency + link.patience


def test_what_was_not_measured_is_no_link():
    """Ranks of one node say nothing of a network, single ranks nothing of a node."""
    assert fit_between(made()) is None
    assert fit_within(made()) is None


@pytest.mark.parametrize("sizes", [(1 << 19, 1 << 20), (1 << 12, 1 << 20)])
def test_too_few_sizes_are_refused(sizes):
    """Latency needs a short array, bandwidth two long ones."""
    with pytest.raises(ArgumentError, match=r"`reductions`.*must have a size up to 16384, and two from 524288 on"):
        fit_between(made(between=reductions(lambda nbytes: nbytes * 1e-9, sizes)))


def test_rates_and_times_are_read():
    """In the units of tc and of ping."""
    assert bits_per_second("rate", "300mbit") == 3e8
    assert bits_per_second("rate", " 2.5 Gbit") == 2.5e9
    assert bits_per_second("rate", "9600bit") == 9600
    assert [seconds("latency", text) for text in ("50us", "0.2ms", "1s")] == pytest.approx([5e-5, 2e-4, 1.0])


@pytest.mark.parametrize("text", ["", "fast", "0mbit", "-1mbit", "1.2.3gbit", "10", "10mb"])
def test_bad_rates_are_named(text):
    """The message has the argument, the value and the rule."""
    with pytest.raises(ArgumentError, match=r"`rate`.*must be a rate above 0, such as 300mbit or 25gbit"):
        bits_per_second("rate", text)


@pytest.mark.parametrize("text", ["", "soon", "-1us", "5", "5 minutes"])
def test_bad_times_are_named(text):
    """The message has the argument, the value and the rule."""
    with pytest.raises(ArgumentError, match=r"`latency`.*must be a time, such as 50us, 0.2ms or 1s"):
        seconds("latency", text)


def test_networks_are_chosen():
    """The profiled one where there is one, else usual ones; changes are part of the name."""
    profiled = made(between=reductions(lambda nbytes: 1e-4 + nbytes * 8e-9))
    assert list(choose(None, [profiled])) == ["profile"]
    assert set(choose(None, [made()])) < set(NAMED)
    found = choose(["profile", "ethernet-10g"], [made(), profiled], "300mbit", "1ms")
    assert list(found) == ["profile at 300mbit 1ms", "ethernet-10g at 300mbit 1ms"]
    for link in found.values():
        assert link.latency == 1e-3
        assert link.seconds_per_byte == pytest.approx(8 / 3e8 / PAYLOAD)
    with pytest.raises(ArgumentError, match=r"`network` \(='carrier-pigeon'\) must be one of 'profile', 'ethernet-1g'"):
        choose(["carrier-pigeon"], [profiled])
    with pytest.raises(ArgumentError, match=r"`network` \(='profile'\) needs a profile of ranks on several nodes"):
        choose(["profile"], [made()])


def test_a_rate_leaves_the_rest_of_a_link():
    """Bursts belong to the shaper, what a core does to the host."""
    link = Link(1e-5, 1e-9, 100.0, 1e-4, 1.5, 2e-10)
    assert link.at(8e9 / PAYLOAD) == link
    assert link.at(latency=2e-5) == Link(2e-5, 1e-9, 100.0, 1e-4, 1.5, 2e-10)
