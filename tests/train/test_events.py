"""From probabilities to events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tusz_cache.errors import UsageError
from tusz_train.errors import BadAnnotations
from tusz_train.events import Detection, Event, RecordingEvents, find_events

PLAIN = Detection(threshold=0.5, release=1.0, close_gap_s=0.0, min_duration_s=0.0)


def line(*pieces: tuple[float, int]) -> np.ndarray:
    """Return probabilities: a level and how many samples it lasts, one after the other."""
    return np.concatenate([np.full(count, level, np.float32) for level, count in pieces])


@pytest.mark.parametrize("rate", [1, 4, 256, 0.25, 100.5])
def test_times_are_seconds(rate: float):
    """A prediction stands for its own 1 / rate seconds, so an event ends where the next one begins."""
    p_T = line((0, 10), (1, 20), (0, 10))

    assert (Event(10 / rate, 30 / rate),) == find_events(p_T, rate, PLAIN)


def test_events_reach_both_ends():
    """An event may be there from the first sample on, to the last."""
    assert (Event(0, 2), Event(3, 5)) == find_events(line((1, 2), (0, 1), (1, 2)), 1, PLAIN)


def test_an_event_begins_at_the_threshold_and_ends_below_the_release():
    """Hysteresis: a dip between release and threshold does not end an event, a rise to there does not begin one."""
    p_T = line((0.47, 5), (0.5, 5), (0.46, 5), (0.44, 5), (0.47, 5))

    assert (Event(5, 15),) == find_events(p_T, 1, Detection(threshold=0.5, release=0.9, min_duration_s=0))


def test_gaps_are_closed_before_short_events_are_dropped():
    """Pieces of one seizure add up; gaps and durations of exactly the limit stay."""
    p_T = line((1, 1), (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3))

    assert (Event(0, 3), Event(10, 13)) == find_events(p_T, 1, Detection(release=1, close_gap_s=2, min_duration_s=3))


def test_nothing_to_find():
    """No probabilities and low ones have no events."""
    assert () == find_events(np.empty(0, np.float32), 256, PLAIN)
    assert () == find_events(line((0.49, 100)), 256, Detection())


probabilities = hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(0, 1, width=32))


@given(probabilities, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5), st.integers(0, 5))
def test_events_are_those_of_the_slow_way(p_T, threshold: float, release: float, gap: int, shortest: int):
    """Vectorised, events are those that one finds sample by sample."""
    on, off = np.float32(threshold), np.float32(threshold * release)
    found: list[list[int]] = []
    active = False
    for i, p in enumerate(p_T):
        if active and p < off:
            active = False
        elif not active and p >= on:
            active = True
            found.append([i, i])
        if active:
            found[-1][1] = i + 1
    closed: list[list[int]] = []
    for start, stop in found:
        if closed and start - closed[-1][1] < gap:
            closed[-1][1] = stop
        else:
            closed.append([start, stop])
    expected = tuple(Event(start, stop) for start, stop in closed if stop - start >= shortest)

    detection = Detection(threshold=threshold, release=release, close_gap_s=gap, min_duration_s=shortest)
    assert expected == find_events(p_T, 1.0, detection)


@pytest.mark.parametrize("p_T", [[0.1, np.nan], [0.1, 1.1], [-0.1], [[0.1]], [np.inf]])
def test_what_is_no_probability_is_an_error(p_T):
    """NaN, logits and batches are refused, not thresholded."""
    with pytest.raises(UsageError):
        find_events(np.array(p_T, np.float32), 1, Detection())


@pytest.mark.parametrize(
    "settings",
    [
        *({"threshold": 0}, {"threshold": 1.1}, {"release": 0}, {"release": 2}, {"threshold": np.nan}),
        *({"close_gap_s": -1}, {"min_duration_s": np.nan}, {"min_duration_s": np.inf}),
    ],
)
def test_settings_that_make_no_sense_are_errors(settings):
    """A detection that could find nothing, or everything, is refused."""
    with pytest.raises(UsageError):
        Detection(**settings)


@pytest.mark.parametrize(("start", "stop"), [(2, 1), (-1, 1), (np.nan, 1), (0, np.inf)])
def test_an_event_has_a_start_and_a_stop(start: float, stop: float):
    """Impossible times are refused wherever an event is made."""
    with pytest.raises(BadAnnotations):
        Event(start, stop)


@pytest.mark.parametrize("duration", [0, -1, 0.5, np.nan, np.inf])
def test_a_recording_has_a_duration(duration: float):
    """A recording that cannot be scored is refused where it is made."""
    with pytest.raises(BadAnnotations):
        RecordingEvents("p_s001_t000", duration)
