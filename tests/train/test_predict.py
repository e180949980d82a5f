"""Inference: which windows are read, how they become the probabilities of whole recordings, what is refused."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.annotations import recording
from tests.support.evaluations import RATE, WINDOW, File, Split, seeing
from tusz_cache.errors import Damaged, UsageError
from tusz_train.curves import Predicted
from tusz_train.events import Event
from tusz_train.predict import Inference, Model, predict, read_batches
from tusz_train.schedule import Schedule, make_schedule

INFERENCE = Inference(batch_size=3)


def ramp(x_BCT: Tensor) -> Tensor:
    """Return logits that depend on the place within the window, so that overlapping windows differ."""
    return x_BCT[:, 0] + torch.linspace(-2, 2, x_BCT.shape[-1])


def predicted(
    split: Split, model: Model = seeing, inference: Inference = INFERENCE, schedule: Schedule | None = None
) -> list[Predicted]:
    schedule = schedule or make_schedule(split.recordings)
    return list(predict(model, read_batches(split, schedule, inference.batch_size), schedule, inference))


def overlap_added(split: Split, first: int, windows: list[int], model: Model, rate: int) -> np.ndarray:
    """Return the weighted mean of windows' probabilities, in float64, by the definition."""
    length, each = WINDOW // RATE * rate, RATE // rate
    weights = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    sums, totals = np.zeros((2, windows[-1] * 10 * rate + length))
    for number in windows:
        x = torch.from_numpy(split.read_batch([first + number])[0])
        p = torch.sigmoid(model(x).double())[0].numpy().reshape(-1, each).mean(1)
        sums[number * 10 * rate :][:length] += weights * p
        totals[number * 10 * rate :][:length] += weights
    return sums / totals


# probabilities


@pytest.mark.parametrize(("stride_s", "windows"), [(10, [0, 1, 2, 3, 4, 5, 6, 7]), (30, [0, 3, 6, 7]), (60, [0, 6, 7])])
def test_overlapping_windows_are_averaged(stride_s: int, windows: list[int]):
    """A recording's probabilities are the Hann-weighted means of its windows' at the stride asked for."""
    split = Split({"a_s001_t000": (2, []), "b_s001_t000": (8, [(20, 50)])})

    _, found = predicted(split, ramp, schedule=make_schedule(split.recordings, stride_s=stride_s))

    assert 130 * 16 == len(found.probabilities)
    np.testing.assert_allclose(overlap_added(split, 2, windows, ramp, 16), found.probabilities, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 12),
    st.sampled_from([10, 20, 60]),
    st.sampled_from([1, 4, 16]),
)
def test_batches_do_not_show(counts: list[int], batch_size: int, stride_s: int, rate: int):
    """However windows are batched, across recordings too, a recording's probabilities are those of its own windows."""
    split = Split({f"p{i}_s001_t000": (count, [(5, 25)]) for i, count in enumerate(counts)})
    schedule = make_schedule(split.recordings, stride_s=stride_s)

    found = predicted(split, ramp, Inference(batch_size=batch_size, rate=rate), schedule)

    assert [f"p{i}_s001_t000" for i in range(len(counts))] == [one.reference.recording for one in found]
    for one, planned in zip(found, schedule.recordings, strict=True):
        expected = overlap_added(split, planned.first, list(planned.windows), ramp, rate)
        np.testing.assert_allclose(expected, one.probabilities, atol=1e-6)


def test_each_window_is_read_once():
    """All windows at a stride and the last of each recording are read, each once, in order."""
    split = Split({"a_s001_t000": (9, []), "b_s001_t000": (0, []), "c_s001_t000": (1, [])})

    predicted(split, schedule=make_schedule(split.recordings, stride_s=60))

    assert [0, 6, 8, 9] == [row for batch in split.read for row in batch]


def test_recordings_come_one_at_a_time():
    """What is read before a recording is handed over does not grow with the number of recordings."""
    split = Split({f"p{i:02}_s001_t000": (4, []) for i in range(40)})
    schedule = make_schedule(split.recordings)

    found = predict(seeing, read_batches(split, schedule, 4), schedule, INFERENCE)
    next(found)
    found.close()

    assert len(split.read) <= 4


def test_short_recordings_are_background_for_their_true_duration():
    """A recording under 60 s has no windows: with its reference file it counts, with probability 0 throughout."""
    split = Split({"a_s001_t000": (0, []), "b_s001_t000": (1, [])})
    references = {
        "a_s001_t000": recording("a_s001_t000", [(3, 9)], 41.5),
        "b_s001_t000": recording("b_s001_t000", [(0, 66)], 66.25),
    }

    schedule = make_schedule(split.recordings, references=references)
    short, other = predicted(split, schedule=schedule)

    assert (41.5, (Event(3, 9),), 664, 0.0) == (
        short.reference.duration,
        short.reference.events,
        len(short.probabilities),
        short.probabilities.max(),
    )
    assert (66.25, 1060) == (other.reference.duration, len(other.probabilities))
    assert 0.0 == other.probabilities[960:].max() < other.probabilities[:960].min()
    assert ("reference files", 1, 107.75) == (
        schedule.coverage.duration_from,
        schedule.coverage.without_windows,
        schedule.coverage.seconds,
    )


def test_references_of_labels():
    """Without reference files, events are runs of labels above 0.5, to the sample; durations are those of windows."""
    spans = [(0, 4), (30.5, 30.5 + 1 / 256), (59, 75.25), (89, 90)]
    split = Split({"a_s001_t000": (4, spans)})

    (found,) = predicted(split)

    assert tuple(Event(start, stop) for start, stop in spans) == found.reference.events
    assert 90 == found.reference.duration


def test_what_is_left_out_is_counted():
    """Recordings without labels, and short ones of unknown duration, are left out, and the coverage says how many."""
    split = Split({"a_s001_t000": (0, []), "b_s001_t000": (3, None), "c_s001_t000": (2, []), "d_s001_t000": (0, None)})

    schedule = make_schedule(split.recordings)
    told = " ".join(schedule.coverage.sentences())

    assert ["c_s001_t000"] == [one.reference.recording for one in predicted(split, schedule=schedule)]
    assert (1, 2, 1, 70.0, "windows") == (
        schedule.coverage.scored,
        schedule.coverage.left_out_short,
        schedule.coverage.left_out_unlabelled,
        schedule.coverage.seconds,
        schedule.coverage.duration_from,
    )
    assert "duration is not known: 2." in told
    assert "have no labels: 1." in told


# the model


class Mode(nn.Module):
    """Notes how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls: list[tuple[bool, bool, torch.dtype]] = []

    def forward(self, x_BCT: Tensor) -> Tensor:
        y_BT = torch.einsum("bct,c->bt", x_BCT, self.weight.expand(19))
        self.calls.append((self.training, torch.is_grad_enabled(), y_BT.dtype))
        return y_BT


@pytest.mark.parametrize("training", [True, False])
def test_a_model_evaluates_and_is_left_as_it_was(training: bool):
    """Inference switches dropout and gradients off, in the model only, and leaves the model as it found it."""
    split, model = Split({"a_s001_t000": (2, [])}), Mode().train(training)
    schedule = make_schedule(split.recordings)

    for _ in predict(model, read_batches(split, schedule, 1), schedule, INFERENCE):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()

    assert {(False, False, torch.float32)} == set(model.calls)
    assert training == model.training


def test_a_model_that_fails_is_left_as_it_was():
    """An error on the way leaves the model in the mode it had."""
    split, model = Split({"a_s001_t000": (2, [])}), Mode().train()
    model.weight.data.fill_(torch.nan)

    with pytest.raises(UsageError, match="NaN"):
        predicted(split, model)
    assert model.training


def test_bf16_stays_close():
    """With bf16 asked for, the forward pass uses it, and probabilities are float32 and about the same."""
    split, model = Split({"a_s001_t000": (2, [])}), Mode()

    (exact,), (close,) = predicted(split, model), predicted(split, model, Inference(amp="bf16"))

    assert torch.bfloat16 == model.calls[-1][2]
    assert np.float32 == close.probabilities.dtype
    np.testing.assert_allclose(exact.probabilities, close.probabilities, atol=0.02)


# what is refused


def broken(split: Split, window: int, labels: float) -> Split:
    x, y = split._windows[window]
    split._windows[window] = x, np.full_like(y, labels)
    return split


@pytest.mark.parametrize(("labels", "what"), [(np.nan, "no labels"), (1.0, "disagree")])
def test_labels_must_be_there_and_agree(labels: float, what: str):
    """Labels that are missing, or differ where windows overlap, are damage that names the recording."""
    split = broken(Split({"a_s001_t000": (3, [])}), 1, labels)

    with pytest.raises(Damaged, match=f"window 1 of a_s001_t000.*{what}"):
        predicted(split)


def test_a_model_must_return_logits_of_the_window():
    """What a model returns has one logit for each sample."""
    with pytest.raises(UsageError, match=r"gives \(1, 960\) for 1 windows"):
        predicted(Split({"a_s001_t000": (1, [])}), lambda x: x[:, 0, ::16])


@pytest.mark.parametrize(("read", "what"), [(slice(1), "fewer windows"), (slice(0, None), "more windows")])
def test_windows_must_be_those_scheduled(read: slice, what: str):
    """Windows that are missing or left over mean that recordings and windows no longer belong together."""
    split = Split({"a_s001_t000": (2, [])})
    schedule = make_schedule(split.recordings)
    windows, labels = (torch.from_numpy(array) for array in split.read_batch([0, 1, 1])[:2])

    with pytest.raises(UsageError, match=what):
        list(predict(seeing, [(windows[read], labels[read])], schedule, INFERENCE))


def test_errors_of_reading_arrive():
    """An error in the thread that reads ahead is raised where windows are asked for."""

    class Gone(Split):
        def read_batch(self, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
            raise Damaged("it is gone", hint="look")

    with pytest.raises(Damaged, match="it is gone"):
        predicted(Gone({"a_s001_t000": (1, [])}))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"rate": 0}, {"rate": 10}, {"rate": 512}])
def test_settings_make_sense(wrong: dict[str, int]):
    """A batch holds a window, and probabilities are means of whole numbers of samples."""
    with pytest.raises(UsageError):
        Inference(**wrong)


@pytest.mark.parametrize("stride_s", [0, 5, 25, 70])
def test_a_stride_is_one_that_the_cache_has(stride_s: int):
    """Windows lie 10 s apart, and must leave no gap."""
    with pytest.raises(UsageError, match="stride"):
        make_schedule([File("a_s001_t000_windows.npz", 3)], stride_s=stride_s)


@pytest.mark.parametrize(
    ("references", "what"),
    [
        ({}, "no reference file"),
        ({"a_s001_t000": recording("a_s001_t000", [], 200)}, "200 s by its reference and 80 s"),
    ],
)
def test_references_must_fit(references: dict, what: str):
    """A recording without its reference file, or with that of another version, is refused."""
    with pytest.raises(UsageError, match=what):
        make_schedule([File("a_s001_t000_windows.npz", 3)], references=references)


def test_something_must_be_left():
    """A split without labels and references cannot be scored."""
    with pytest.raises(UsageError, match="none of 2"):
        make_schedule([File("a_s001_t000_windows.npz", 3, is_labelled=False), File("b_s001_t000_windows.npz", 0)])


def test_reading_ahead_ends_with_its_reader():
    """A reader that stops early leaves no thread that goes on reading."""
    split = Split({"a_s001_t000": (30, [])})
    batches: Iterator = read_batches(split, make_schedule(split.recordings), 1)
    next(batches)
    batches.close()
    read = len(split.read)

    assert read == len(split.read) <= 4
