"""What a model reaches at any threshold, from its probabilities."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.annotations import recording
from tusz_cache.errors import UsageError
from tusz_train import ranking
from tusz_train.curves import THRESHOLDS, Predicted, score_predictions
from tusz_train.events import Detection
from tusz_train.scoring import score_recordings

RATE = 4.0


@st.composite
def scored_seconds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores with many ties, and labels."""
    n = draw(st.integers(1, 40))
    scores = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 8))) / 8
    return scores.astype(np.float32), draw(hnp.arrays(np.bool_, n))


def predicted(name: str, seed: int, seizures: list[tuple[float, float]], duration: float = 900.0) -> Predicted:
    """Return noise, higher in most seizures."""
    rng = np.random.default_rng(seed)
    p_T = np.repeat(rng.random(round(duration * RATE) // 20 + 1) ** 3, 20)[: round(duration * RATE)]
    for start, stop in seizures:
        p_T[round(start * RATE) : round(stop * RATE)] **= 0.2
    return Predicted(recording(name, seizures, duration), p_T.astype(np.float32), RATE)


def corpus() -> list[Predicted]:
    seizures = [[(100.0, 160.0), (600.0, 640.0)], [], [(200.0, 230.0)], [(10.0, 12.0)], []]
    names = ["a_1", "a_2", "b_1", "b_2", "c_1"]
    return [predicted(name, i, spans) for i, (name, spans) in enumerate(zip(names, seizures, strict=True))]


# ranking


@given(scored_seconds())
def test_auroc_is_the_share_of_pairs_in_order(drawn):
    """AUROC is the chance that an ictal second scores above another one, ties half."""
    scores, ictal = drawn
    pairs = [(float(a > b) + float(a == b) / 2) for a, b in itertools.product(scores[ictal], scores[~ictal])]

    assert (pytest.approx(np.mean(pairs)) if pairs else None) == ranking.auroc(scores, ictal)


@given(scored_seconds())
def test_average_precision_is_the_mean_precision_over_ictal_seconds(drawn):
    """Average precision takes each ictal second's score as the threshold, and ties as one."""
    scores, ictal = drawn
    precisions = [np.mean(ictal[scores >= score]) for score in scores[ictal]]

    expected = pytest.approx(np.mean(precisions)) if precisions else None
    assert expected == ranking.average_precision(scores, ictal)


@pytest.mark.parametrize("rate", [1.0, 4.0, 7.5, 256.0])
@pytest.mark.parametrize("duration", [1.0, 1.5, 3.5, 10.6, 60.0])
def test_seconds_are_means_of_their_predictions(rate: float, duration: float):
    """Each second has the mean of its own predictions, the last one too."""
    p_T = np.linspace(0, 1, round(duration * rate), dtype=np.float32)
    by_second = ranking.by_second(p_T, rate, round(duration))

    bounds = [round(second * rate) for second in range(round(duration) + 1)]
    expected = [p_T[a:b].mean() if len(p_T[a:b]) else p_T[-1] for a, b in itertools.pairwise(bounds)]
    np.testing.assert_allclose(expected, by_second, rtol=1e-5)


def test_too_few_predictions_are_an_error():
    """Predictions every two seconds cannot be ranked at 1 Hz."""
    with pytest.raises(UsageError):
        ranking.by_second(np.zeros(30, np.float32), 0.5, 60)


# thresholds


@pytest.fixture(scope="module")
def report():
    return score_predictions(corpus(), Detection(close_gap_s=5))


def test_each_point_is_what_scoring_its_detections_gives(report):
    """The sweep counts as scoring the same events does, at every threshold, in rising order."""
    assert list(THRESHOLDS) == [point.threshold for point in report.points]
    for point in report.points[::8]:
        detection = Detection(close_gap_s=5, threshold=point.threshold)
        pooled = score_recordings((one.reference, one.detected(detection)) for one in corpus()).pooled
        assert (pooled.szcore.event, pooled.nedc_ovlp) == (point.szcore_event, point.nedc_ovlp)


@pytest.mark.parametrize("limit", [0, 1, 2.5, 5, 10, 500])
def test_sensitivity_at_a_rate_is_the_best_that_keeps_to_it(report, limit: float):
    """No threshold with as few false alarms finds more, and the threshold that is named does find as much."""
    for scorer, rate in (("nedc_ovlp", "fa_per_24h"), ("szcore_event", "fp_per_day")):
        reached = report.sensitivity_at(scorer, limit)
        counts = {point.threshold: getattr(point, scorer) for point in report.points}
        allowed = [one.sensitivity for one in counts.values() if getattr(one, rate) <= limit]
        assert max(allowed, default=0.0) == reached["sensitivity"]
        assert reached[rate] <= limit
        assert reached["threshold"] is None or counts[reached["threshold"]].sensitivity == reached["sensitivity"]


def test_a_model_that_always_calls_out_has_no_sensitivity_at_a_low_rate():
    """Where every threshold has too many false alarms, what detects nothing stands: 0, at no threshold."""
    p_T = np.tile(np.repeat([1.0, 0.0], 40), 45)
    report = score_predictions([Predicted(recording("a_1", [(100, 110)], 900), p_T, RATE)])

    assert {"sensitivity": 0.0, "threshold": None, "fa_per_24h": 0.0} == report.sensitivity_at("nedc_ovlp", 10)


def test_the_best_threshold_has_the_highest_f1(report):
    """The threshold to freeze is the one whose pooled SzCORE event F1 no other exceeds."""
    best = report.best_szcore_event_f1

    assert max(point.szcore_event.f1 for point in report.points) == best.szcore_event.f1


def test_every_name_carries_its_scorer(report):
    """A reader of the JSON never has to ask which scorer a number is of; undefined values are null."""
    found = report.as_dict()

    assert {"10", "5", "2.5", "1"} == set(found["nedc_ovlp_sensitivity_at_fa_per_24h"])
    assert {"10", "5", "2.5", "1"} == set(found["szcore_event_sensitivity_at_fp_per_day"])
    assert None is found["auroc_1hz"]["per_subject"]["c"]
    assert ["a", "b", "c"] == list(found["average_precision_1hz"]["per_subject"])
    values = found["auroc_1hz"]["per_subject"]
    assert (values["a"] + values["b"]) / 2 == pytest.approx(found["auroc_1hz"]["macro"])
    assert "NaN" not in report.as_json()
    assert "NEDC OVLP sensitivity at FA/24h" in report.as_text()
    assert report._repr_html_().startswith("<table>")


def test_ranking_is_pooled_over_all_seconds(report):
    """The pooled AUROC is that of all seconds of all recordings together."""
    parts = [one.seconds() for one in corpus()]
    scores, ictal = (np.concatenate(column) for column in zip(*parts, strict=True))

    assert ranking.auroc(scores, ictal) == report.pooled.auroc_1hz
    assert 102.0 + 30.0 == ictal.sum()


def test_without_seizures_sensitivity_is_undefined():
    """Recordings without seizures have false alarms, and no sensitivity."""
    found = score_predictions([predicted("a_1", 1, [])])

    assert None is found.sensitivity_at("nedc_ovlp", 10)["sensitivity"]
    assert None is found.pooled.average_precision_1hz


def test_probabilities_are_of_the_whole_recording():
    """Probabilities that stop where windows did are refused: the tail counts in the rate of false alarms."""
    one = corpus()[0]

    with pytest.raises(UsageError):
        dataclasses.replace(one, probabilities=one.probabilities[:-20])


@pytest.mark.parametrize("recordings", [[], [corpus()[0], corpus()[0]]])
def test_a_corpus_is_recordings_each_once(recordings):
    """Nothing to score is an error, and so is a recording that comes twice."""
    with pytest.raises(UsageError):
        score_predictions(recordings)
