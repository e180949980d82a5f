"""What is computed here agrees with the field's library and with the slow way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timescoring.annotations import Annotation
from timescoring.scoring import EventScoring, SampleScoring

from tests.support.annotations import HOUR, random_spans, recording, spans
from tusz_cache.errors import MissingPackage, UsageError
from tusz_train import nedc, scoring, szcore

PAIRS = 1000


def library(seizures, rate: int = 256) -> Annotation:
    return Annotation(seizures, rate, int(HOUR * rate))


def undefined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def test_a_thousand_random_pairs_score_as_the_library_scores_them():
    """Counts and ratios, undefined ones too, are those of timescoring for whatever lies in an hour."""
    rng = np.random.default_rng(6)
    for _ in range(PAIRS):
        ref, hyp = random_spans(rng), random_spans(rng)
        counted = szcore.count(recording("p_1", ref), recording("p_1", hyp))
        for scored, ours in (
            (EventScoring(library(ref), library(hyp)), counted.event),
            (SampleScoring(library(ref), library(hyp)), counted.sample),
        ):
            assert (scored.tp, scored.fp, scored.refTrue) == (ours.tp, ours.fp, ours.ref)
            for theirs, name in zip(("sensitivity", "precision", "f1", "fpRate"), szcore.RATIOS, strict=True):
                expected = undefined(getattr(scored, theirs))
                assert (expected is None) == (getattr(ours, name) is None)
                assert expected is None or math.isclose(expected, getattr(ours, name))


def test_a_thousand_random_pairs_overlap_as_the_slow_way_says():
    """Hits and false alarms of NEDC OVLP are those that comparing each event with each other gives."""
    rng = np.random.default_rng(7)
    for _ in range(PAIRS):
        ref, hyp = random_spans(rng), random_spans(rng)
        counted = nedc.count(recording("p_1", ref), recording("p_1", hyp))

        hits = sum(any(h[0] < r[1] and r[0] < h[1] for h in hyp) for r in ref)
        alarms = sum(not any(h[0] < r[1] and r[0] < h[1] for r in ref) for h in hyp)
        assert (hits, len(ref) - hits, alarms) == (counted.hits, counted.misses, counted.false_alarms)


def test_events_that_only_touch_do_not_overlap():
    """A detection that ends where the seizure begins is a false alarm for NEDC OVLP."""
    counted = nedc.count(recording("p_1", [(100, 160)]), recording("p_1", [(90, 100), (160, 170)]))

    assert (0, 1, 2) == (counted.hits, counted.misses, counted.false_alarms)


@given(st.lists(st.tuples(st.sampled_from("abc"), spans(), spans()), min_size=1, max_size=8))
def test_scores_do_not_depend_on_the_order(drawn):
    """Recordings may come in any order, and a stream of them need not be a list."""
    pairs = [
        (recording(f"{subject}_{i}", ref), recording(f"{subject}_{i}", hyp))
        for i, (subject, ref, hyp) in enumerate(drawn)
    ]

    assert scoring.score_recordings(pairs).as_dict() == scoring.score_recordings(iter(pairs[::-1])).as_dict()


@given(spans(most=4, rate=10))
def test_a_perfect_detection_has_perfect_scores(seizures):
    """Both scorers find everything and nothing false where hypothesis and reference are one, down to 0.1 s."""
    pooled = scoring.score_recordings([(recording("p_1", seizures), recording("p_1", seizures))]).pooled

    assert (len(seizures), 0, 0) == (pooled.nedc_ovlp.hits, pooled.nedc_ovlp.misses, pooled.nedc_ovlp.false_alarms)
    assert (pooled.szcore.event.ref, 0) == (pooled.szcore.event.tp, pooled.szcore.event.fp)
    assert (pooled.szcore.sample.ref, 0) == (pooled.szcore.sample.tp, pooled.szcore.sample.fp)


def test_a_recording_is_scored_once():
    """Failure 15: windows of one recording handed over as if each were a recording are refused."""
    pair = recording("p_1", []), recording("p_1", [])

    with pytest.raises(UsageError, match="comes twice"):
        scoring.score_recordings([pair, pair])


@pytest.mark.parametrize("other", [recording("p_2", []), recording("p_1", [], 60.0)])
def test_a_pair_is_of_one_recording(other):
    """A hypothesis is never scored against another recording, or one of another length."""
    with pytest.raises(UsageError):
        scoring.score_recordings([(recording("p_1", []), other)])


def test_nothing_is_no_score():
    """No pair at all is an error and not a perfect score."""
    with pytest.raises(UsageError):
        scoring.score_recordings([])


def test_a_notebook_shows_a_table():
    """A report is a table in a notebook."""
    report = scoring.score_recordings([(recording("p_1", [(1, 2)]), recording("p_1", []))])

    assert report._repr_html_().startswith("<table>")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without timescoring the user learns what to install."""

    def missing(name: str) -> None:
        raise ImportError(name)

    szcore._library.cache_clear()
    monkeypatch.setattr(szcore.importlib, "import_module", missing)

    with pytest.raises(MissingPackage, match="timescoring"):
        szcore.count(recording("p_1", []), recording("p_1", []))
