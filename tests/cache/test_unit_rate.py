"""What pushing must be: waits that grow to a bound, fewer requests when asked, and never above the cap."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.copying.rate import BASE, CAP, COOLDOWN, Concurrency, backoff, pace

shares = st.floats(0, 1, exclude_max=True)


@given(st.integers(1), shares)
def test_no_wait_is_longer_than_the_cap(attempt: int, share: float):
    """However often a request failed, it waits between nothing and the cap."""
    assert 0 <= backoff(attempt, share) <= CAP


def test_the_first_retry_comes_soon():
    """The first retry waits at most BASE."""
    assert BASE == pytest.approx(backoff(1, 1.0))


def test_waits_double_up_to_the_cap():
    """Each retry may wait twice as long as the one before, until the cap."""
    bounds = [backoff(attempt, 1.0) for attempt in range(1, 20)]

    assert all(2 * before == after for before, after in pairwise(bounds) if after < CAP)
    assert CAP == bounds[-1]


@given(st.integers(1, 20), shares, shares)
def test_a_wait_is_in_proportion_to_chance(attempt: int, one: float, other: float):
    """Waits are spread over the whole range from nothing to the bound: full jitter."""
    assert (one < other) >= (backoff(attempt, one) < backoff(attempt, other))
    assert 0 == backoff(attempt, 0.0)


def test_waits_differ_without_being_asked():
    """Left to itself, chance spreads the waits, so that clients do not come back together."""
    assert 1 < len({backoff(5) for _ in range(20)})


events = st.lists(st.none() | st.floats(0, 5), max_size=60)  # None: a success; a number: a refusal, that much later


@given(st.integers(1, 64), events)
def test_the_limit_stays_between_one_and_the_most(most: int, happenings: list[float | None]):
    """Whatever happens, at least one request and at most `most` may be under way, and every refusal is counted."""
    rate, now = Concurrency(most), 0.0
    assert most == rate.limit
    for pause in happenings:
        before = rate.limit
        if pause is None:
            rate.succeeded()
            assert before <= rate.limit <= min(most, before + 1)
        else:
            now += pause
            rate.refused(now)
            assert rate.limit in {before, max(1.0, before / 2)}
        assert 1 <= rate.limit <= most

    assert sum(pause is not None for pause in happenings) == rate.throttled


def test_refusals_at_once_count_once():
    """Requests that were under way together and are refused together halve the limit once."""
    rate = Concurrency(32)
    for moment in (0.0, 0.0, 0.5 * COOLDOWN, 0.99 * COOLDOWN):
        rate.refused(moment)
    assert (16, 4) == (rate.limit, rate.throttled)

    rate.refused(COOLDOWN)
    assert 8 == rate.limit


def test_the_limit_recovers_by_one_a_round():
    """After as many successes as the limit allows at once, there is room for about one more, up to the most."""
    rate = Concurrency(10)
    rate.refused(0.0)
    for _ in range(5):
        rate.succeeded()
    assert 5.9 < rate.limit <= 6

    for _ in range(1000):
        rate.succeeded()
    assert 10 == rate.limit


@given(st.integers(1, 10**12), st.integers(1, 1024), st.integers(0, 10**6))
def test_all_requests_together_keep_to_the_cap(bandwidth: int, at_once: int, remaining: int):
    """The paces of all requests that can be under way add up to the cap, neither more nor less."""
    share = pace(bandwidth, at_once, remaining)

    assert share is not None
    assert bandwidth == pytest.approx(share * max(1, min(at_once, remaining)))


def test_without_a_cap_there_is_no_pace():
    """No cap, no pace."""
    assert pace(None, 8, 100) is None
