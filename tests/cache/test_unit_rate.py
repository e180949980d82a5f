"""What pushing must be: waits that grow to a bound, fewer requests when asked, and never above the cap."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.copying.rate import (
    BASE,
    CAP,
    COOLDOWN,
    SPEED_SAMPLES,
    STRAGGLER_LEAST,
    STRAGGLER_SAMPLES,
    Concurrency,
    Pace,
    backoff,
    pace,
)

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
            rate.succeeded(1, now)
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
        rate.succeeded(1, 0.0)
    assert 5.9 < rate.limit <= 6

    for _ in range(1000):
        rate.succeeded(1, 0.0)
    assert 10 == rate.limit


def serve(rate: Concurrency, seconds: float, knee: float, bandwidth: float = 1e8) -> list[float]:
    """Let a server answer whose goodput grows with the requests under way up to `knee`. Returns the limits in time."""
    now, limits = 0.0, []
    part = 4 * 1024**2
    while now < seconds:
        now += part / (bandwidth * min(int(rate.limit), knee))
        rate.succeeded(part, now)
        limits.append(rate.limit)
    return limits


@given(st.integers(1, 64), st.integers(1, 16))
def test_as_many_requests_as_pay(knee: int, start: int):
    """Where more requests bring more up to some number, about that number is found, from above and from below."""
    limits = serve(Concurrency(64, start), 60, knee)
    later = limits[len(limits) // 2 :]

    assert 0.6 * knee <= sum(later) / len(later) <= 2.1 * max(knee, 2)


def test_a_server_that_serves_one_gets_few():
    """Where more requests bring nothing, their number falls, though it began higher."""
    limits = serve(Concurrency(64, 16), 120, 1)

    assert min(limits) < 4


def test_more_requests_are_tried_again_when_the_server_has_room():
    """A server that gets faster for more requests is noticed later, too."""
    rate = Concurrency(64, 4)
    serve(rate, 30, 4)
    assert rate.limit < 12

    limits = serve(rate, 60, 48)
    assert 24 < max(limits)


@given(st.integers(1, 64), st.lists(st.floats(0.001, 10), max_size=200))
def test_a_number_that_was_asked_for_stays(most: int, pauses: list[float]):
    """Without a number to begin with, nothing is tried: as many requests as were asked for, throughout."""
    rate, now = Concurrency(most), 0.0
    for pause in pauses:
        now += pause
        rate.succeeded(1000, now)
        assert most == rate.limit


def test_refusals_end_the_search():
    """A server that refuses requests is not probed for more of them: from then on one more a round."""
    rate = Concurrency(64, 16)
    rate.refused(0.0)
    assert 8 == rate.limit

    for number in range(8):
        rate.succeeded(10**9, 100.0 * number)
    assert 8.9 < rate.limit <= 9


@given(st.lists(st.floats(0.01, 100), min_size=STRAGGLER_SAMPLES, max_size=64))
def test_a_straggler_takes_far_longer_than_others(seconds: list[float]):
    """Patience is three times what all but the slowest twentieth took, and never less than a bound."""
    taken = Pace()
    for one in seconds:
        taken.took(one, 1000)
    patience = taken.patience()

    assert patience is not None
    assert patience >= STRAGGLER_LEAST
    assert patience <= max(STRAGGLER_LEAST, 3 * max(seconds))
    assert sum(one * 3 > patience for one in seconds) <= max(1, len(seconds) * 0.05)


def test_few_parts_make_no_straggler():
    """Before enough parts have come, nobody can tell which takes long."""
    taken = Pace()
    for _ in range(STRAGGLER_SAMPLES - 1):
        taken.took(0.1, 1000)

    assert taken.patience() is None


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(1, 10**9)), max_size=64))
def test_a_speed_is_one_at_which_parts_came(parts: list[tuple[float, int]]):
    """Half of the parts came no slower, whatever their sizes; of too few nothing is said."""
    taken = Pace()
    for seconds, size in parts:
        taken.took(seconds, size)
    speed = taken.speed()

    if len(parts) < SPEED_SAMPLES:
        assert 0 == speed
    else:
        assert 2 * sum(size / seconds >= speed for seconds, size in parts) >= len(parts)
        assert 2 * sum(size / seconds <= speed for seconds, size in parts) >= len(parts)


@pytest.mark.parametrize("knee", [1, 2])
def test_a_small_number_can_rise_again(knee: int):
    """Where one or two requests were best for a while and more are now, the number finds that out."""
    rate, now = Concurrency(64, knee), 0.0
    for best in (knee, 16):
        for _ in range(3000):
            now += 0.1 / min(int(rate.limit), best)
            rate.succeeded(10**7, now)

    assert rate.limit > 8


@given(st.integers(1, 10**12), st.integers(1, 1024), st.integers(0, 10**6))
def test_all_requests_together_keep_to_the_cap(bandwidth: int, at_once: int, remaining: int):
    """The paces of all requests that can be under way add up to the cap, neither more nor less."""
    share = pace(bandwidth, at_once, remaining)

    assert share is not None
    assert bandwidth == pytest.approx(share * max(1, min(at_once, remaining)))


def test_without_a_cap_there_is_no_pace():
    """No cap, no pace."""
    assert pace(None, 8, 100) is None
