"""Windows become recordings again: every sample has its value, and overlaps are weighted means."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.annotations import recording
from tusz_cache.errors import UsageError
from tusz_train.events import Detection, RecordingEvents, find_events
from tusz_train.scoring import score_recordings
from tusz_train.stitch import cut_window, hann, stitch, stitch_pieces, trapezoid, window_starts

LENGTH = 12
weights = st.one_of(st.just(hann(LENGTH)), st.integers(0, LENGTH).map(lambda ramp: trapezoid(LENGTH, ramp)))
recordings = st.tuples(st.integers(1, 100), st.integers(1, LENGTH))  # samples, stride


@pytest.mark.parametrize("w_L", [hann(9), hann(10), trapezoid(9, 3), trapezoid(10, 0), trapezoid(10, 50), hann(1)])
def test_weights_are_symmetric_and_never_zero(w_L):
    """No sample is without weight, so the recording's first and last have a value."""
    assert np.all((w_L > 0) & (w_L <= 1))
    np.testing.assert_allclose(w_L, w_L[::-1])
    assert np.all(np.diff(w_L[: (len(w_L) + 1) // 2]) >= 0)


@given(recordings)
def test_every_sample_lies_in_a_window(recorded):
    """Windows cover the recording from the first sample to the last, each begins in it, and none is needless."""
    n_samples, stride = recorded
    starts = window_starts(n_samples, LENGTH, stride)

    covered = np.zeros(n_samples, bool)
    for start in starts:
        assert start < n_samples
        covered[start : start + LENGTH] = True
    assert covered.all()
    assert len(starts) == 1 or starts[-2] + LENGTH < n_samples


@given(recordings, weights, st.floats(0, 1, width=32))
def test_constant_predictions_give_the_constant(recorded, w_L, constant: float):
    """Weights cancel out where windows agree: at the ends, in padded tails and in short recordings."""
    n_samples, stride = recorded
    windows = ((start, np.full(LENGTH, constant, np.float32)) for start in window_starts(n_samples, LENGTH, stride))
    p_T = stitch(windows, n_samples, w_L)

    assert (n_samples,) == p_T.shape
    np.testing.assert_allclose(np.full(n_samples, constant), p_T, rtol=1e-6)


@given(recordings, weights, st.integers(0, 2**32 - 1))
def test_stitching_equals_the_dense_reference(recorded, w_L, seed: int):
    """Window after window gives what one gets with all windows in memory."""
    n_samples, stride = recorded
    starts = window_starts(n_samples, LENGTH, stride)
    predictions_NL = np.random.default_rng(seed).random((len(starts), LENGTH), np.float32)
    sums, totals = np.zeros((2, starts[-1] + LENGTH))
    for start, predictions_L in zip(starts, predictions_NL, strict=True):
        sums[start : start + LENGTH] += w_L * predictions_L
        totals[start : start + LENGTH] += w_L

    p_T = stitch(zip(starts, predictions_NL, strict=True), n_samples, w_L)
    np.testing.assert_allclose((sums / totals)[:n_samples], p_T, rtol=1e-6)


@given(recordings, weights)
def test_a_window_is_cut_where_it_begins(recorded, w_L):
    """What is cut and stitched without a model in between is the recording again."""
    n_samples, stride = recorded
    x_CT = np.arange(2 * n_samples, dtype=np.float32).reshape(2, n_samples)
    starts = window_starts(n_samples, LENGTH, stride)
    stitched_T = stitch(((start, cut_window(x_CT, start, LENGTH)[1]) for start in starts), n_samples, w_L)

    np.testing.assert_allclose(x_CT[1], stitched_T, rtol=1e-6)


def test_what_lies_past_the_end_is_zero():
    """The last window is padded with the mean of standardised channels."""
    window = cut_window(np.ones((19, 100), np.float32), 95, LENGTH)

    assert ((19, LENGTH), np.float32) == (window.shape, window.dtype)
    np.testing.assert_array_equal(np.repeat([1, 0], [5, 7]), window[7])


@pytest.mark.parametrize("n_windows", [0, 3])
def test_a_tail_that_no_window_saw_has_a_value(n_windows: int):
    """A cache leaves out tails and short recordings; they are background, unless the caller knows better."""
    windows = [(start * 6, np.ones(LENGTH, np.float32)) for start in range(n_windows)]
    seen = n_windows and 24
    p_T = stitch(windows, 30, hann(LENGTH))

    np.testing.assert_array_equal(np.repeat([1.0, 0.0], [seen, 30 - seen]), p_T)
    assert 0.5 == stitch(windows, 30, hann(LENGTH), unseen=0.5)[-1]


def test_memory_does_not_grow_with_the_recording():
    """A piece comes out as soon as no later window can change it: one window is held, however many there are."""
    endless = ((start, np.full(LENGTH, 0.25, np.float32)) for start in itertools.count(0, 6))
    pieces = stitch_pieces(endless, 10**9, hann(LENGTH))

    assert [6] * 1000 == [len(piece) for piece in itertools.islice(pieces, 1000)]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_windows_come_in_order(starts: list[int]):
    """Windows out of order, twice, or with a gap between them are refused."""
    steps = [start - before for before, start in itertools.pairwise([0, *starts])]
    assume(starts[0] != 0 or any(not 0 < step <= LENGTH for step in steps[1:]))

    with pytest.raises(UsageError):
        stitch(((start, np.zeros(LENGTH, np.float32)) for start in starts), 100, hann(LENGTH))


@pytest.mark.parametrize("predictions_L", [np.zeros(LENGTH + 1), np.zeros((1, LENGTH)), np.full(LENGTH, np.nan)])
def test_predictions_that_are_none_are_refused(predictions_L):
    """A wrong shape is not broadcast, and NaN does not spread over its neighbours."""
    with pytest.raises(UsageError):
        stitch([(0, predictions_L)], LENGTH, hann(LENGTH))


def test_weights_of_zero_are_refused():
    """Weights that vanish at their ends would leave the first sample without a value."""
    with pytest.raises(UsageError):
        stitch([(0, np.zeros(LENGTH))], LENGTH, np.hanning(LENGTH))


def test_windows_of_two_recordings_are_never_one():
    """Failure 15: the windows of a second recording, which begin at 0 again, cannot be stitched to the first."""
    windows = [(start, np.zeros(LENGTH, np.float32)) for start in (0, 6, 0, 6)]

    with pytest.raises(UsageError, match="begins at 0, after one that began at 6"):
        stitch(windows, 36, hann(LENGTH))


def test_a_seizure_counts_once_though_six_windows_saw_it():
    """Failure 15: events are counted in the stitched recording, not in each overlapping window."""
    ictal_T = np.zeros(300, np.float32)
    ictal_T[100:110] = 1
    starts = window_starts(300, 60, 10)
    p_T = stitch(((start, ictal_T[start : start + 60]) for start in starts), 300, hann(60))
    reference = recording("p_s001_t000", [(100, 110)], 300)
    hypothesis = RecordingEvents("p_s001_t000", 300, find_events(p_T, 1, Detection()))

    assert 6 == sum(bool(ictal_T[start : start + 60].any()) for start in starts)
    counted = score_recordings([(reference, hypothesis)]).pooled
    assert (1, 0) == (counted.nedc_ovlp.hits, counted.nedc_ovlp.false_alarms)
    assert (1, 0, 1) == (counted.szcore.event.tp, counted.szcore.event.fp, counted.szcore.event.ref)
