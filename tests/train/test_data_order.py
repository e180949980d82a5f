"""What the order of windows must be: the users' own at first, the same everywhere, and continued where it stopped."""

import json
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manifests import corpus, manifest_of, manifests
from tusz_cache import Category, UsageError, WindowManifest
from tusz_cache.tusz_windows import to_bytes
from tusz_train.data.order import numbers, order, order_digest, permutation, uniform
from tusz_train.data.sampler import (
    BalancedBatchSampler,
    EvaluationSampler,
    TrainingSampler,
    UnbalancedBatchSampler,
)
from tusz_train.errors import OrderChanged

CORPUS = corpus(300)
KEYS = st.tuples(st.text(max_size=5), st.integers(0, 2**40), st.integers(0, 1000))
KINDS = ("fixed", "redraw", "unbalanced")


def sampler(kind: str, manifest: WindowManifest = CORPUS, batch_size: int = 8, **options: Any) -> TrainingSampler:
    options = {"seed": 42} | options
    if kind == "unbalanced":
        return UnbalancedBatchSampler(manifest, batch_size, **options)
    return BalancedBatchSampler(manifest, batch_size, draw=kind, **options)


def flat(batches: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def windows(manifest: WindowManifest, rows: Any) -> list[tuple[str, int]]:
    return [(manifest.files[manifest.file_numbers[row]], int(manifest.windows[row])) for row in rows]


def taken(some: TrainingSampler, batches: int | None = None) -> list[list[int]]:
    """Return what a training loop takes of an epoch."""
    found = list(islice(some, batches))
    for _ in found:
        some.take()
    return found


# our own permutation


@given(st.integers(0, 50), KEYS)
def test_numbers_are_splitmix64(count: int, key: tuple[str, int, int]):
    """The keyed numbers are the stream that SplitMix64's definition gives, in whole numbers without end."""
    state = int(numbers(1, *key)[0])  # undo the mix to find the state behind the first number
    expected = [state]
    mask = 2**64 - 1

    def undo(z: int, shift: int) -> int:
        found = z
        for _ in range(64 // shift + 1):
            found = z ^ (found >> shift)
        return found

    z = undo(state, 31) * pow(0x94D049BB133111EB, -1, 2**64) & mask
    z = undo(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
    state = undo(z, 30)
    for _ in range(count):
        state = state + 0x9E3779B97F4A7C15 & mask
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        expected.append(z ^ z >> 31)

    assert expected == numbers(count + 1, *key).tolist()


def test_the_order_never_changes():
    """Saved positions stay valid: an order is the same in each version of this software and of numpy."""
    assert [5, 6, 7, 8, 4, 2, 3, 9, 0, 1] == order("store", 42, 0, 10).tolist()
    assert "b643eea46a5aa6bdcb976549695cbdc0" == order_digest(order("store", 42, 3, 1000))


@given(st.integers(0, 300), KEYS)
def test_an_order_is_a_permutation(count: int, key: tuple[str, int, int]):
    """An epoch goes through every window once."""
    assert list(range(count)) == sorted(permutation(count, *key))


@given(KEYS, KEYS)
def test_each_key_has_its_own_order(one: tuple[str, int, int], other: tuple[str, int, int]):
    """Another store, seed or epoch gives another order, the same ones the same."""
    assert (one == other) == (order(*one, 100).tolist() == order(*other, 100).tolist())


def test_places_are_taken_alike():
    """Over many epochs each window comes as often early as late."""
    first = np.bincount([order("store", 1, epoch, 10)[0] for epoch in range(2000)], minlength=10)

    assert first.min() > 150
    assert first.max() < 250
    drawn = uniform((10_000,), "a", 1)
    assert 0 <= drawn.min() <= drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.02


# the users' draw


def as_the_tool_draws(data: bytes, seed: int) -> list[tuple[str, int]]:
    """Return the entries of the users' balanced dataset, from its manifest file, written anew from its description."""
    manifest = json.loads(data)
    lists = {
        key: [(row["cache_file"], row["window_idx"]) for row in manifest[key]]
        for key in ("partial_seizure", "full_seizure", "no_seizure")
    }
    rng = np.random.default_rng(seed)
    entries = list(lists["partial_seizure"])
    partial = len(entries)
    for key, share in (("full_seizure", 0.3), ("no_seizure", 2.5)):
        size = min(int(share * partial), len(lists[key]))
        if size:
            entries += [lists[key][i] for i in rng.choice(len(lists[key]), size=size, replace=False)]
    array = np.empty((len(entries), 2), dtype=object)
    for number, entry in enumerate(entries):
        array[number] = entry
    rng.shuffle(array)
    return [(str(name), int(window)) for name, window in array]


@pytest.mark.parametrize("seed", [42, 0, 7])
def test_the_fixed_draw_is_the_users(seed: int):
    """The fixed draw and its first order are those of the users' tool, window by window."""
    drawn = BalancedBatchSampler(CORPUS, 1, seed=seed)

    assert as_the_tool_draws(to_bytes(CORPUS), seed) == windows(CORPUS, drawn.order())


@given(manifests(), st.integers(0, 100))
def test_the_fixed_draw_is_the_users_of_any_manifest(manifest: WindowManifest, seed: int):
    """Also where a category is empty, or has less than its share."""
    drawn = BalancedBatchSampler(manifest, 1, seed=seed)

    counts = manifest.counts()
    if all(counts[category] for category in Category):
        assert as_the_tool_draws(to_bytes(manifest), seed) == windows(manifest, drawn.order())
    assert len(set(drawn.order().tolist())) == len(drawn)


@pytest.mark.parametrize("draw", ["fixed", "redraw"])
def test_a_draw_is_balanced(draw: str):
    """Each epoch has all P partial seizures once, int(0.3 P) full ones and int(2.5 P) windows of background."""
    balanced = sampler(draw, batch_size=1)
    partial = CORPUS.counts()[Category.PARTIAL]
    for epoch in range(3):
        rows = balanced.rows(epoch)
        shown = np.bincount(CORPUS.categories[rows], minlength=3).tolist()

        assert [partial, int(0.3 * partial), int(2.5 * partial)] == shown
        assert len(rows) == len(set(rows.tolist()))


def test_a_fixed_draw_stays_and_another_does_not():
    """ "fixed" shows the same windows in another order each epoch, "redraw" shows others."""
    fixed, redraw = ([sampler(kind, batch_size=1).rows(epoch) for epoch in range(3)] for kind in ("fixed", "redraw"))

    assert 1 == len({frozenset(rows.tolist()) for rows in fixed})
    assert 3 == len({order_digest(rows) for rows in fixed})
    assert 3 == len({frozenset(rows.tolist()) for rows in redraw})


def test_nothing_to_balance_against_is_an_error():
    """Labels without a seizure in part do not give an epoch of background: the run does not begin."""
    with pytest.raises(UsageError, match="none of the 6 windows shows a seizure in part"):
        sampler("fixed", manifest_of("nnf", "nnn")).order()


# ranks and tails


@pytest.mark.parametrize("kind", KINDS)
@given(
    manifest=manifests(least=3),
    share=st.integers(1, 4),
    last=st.sampled_from(["drop", "wrap"]),
    epoch=st.integers(0, 2),
)
def test_ranks_share_the_global_batch(kind: str, manifest: WindowManifest, share: int, last: str, epoch: int):
    """Ranks' parts, one after the other, are the batch that one rank alone has: for 1, 2 and 4 of them."""
    size = 4 * share
    if last == "drop" and len(sampler(kind, manifest, 1).rows(epoch)) < size:
        return
    found = []
    for world in (1, 2, 4):
        ranks = [sampler(kind, manifest, size, rank=rank, world_size=world, last=last) for rank in range(world)]
        for rank in ranks:
            rank.set_epoch(epoch)
        found.append([flat(parts) for parts in zip(*ranks, strict=True)])

    assert found[0] == found[1] == found[2]
    assert {size} == set(map(len, found[0]))
    assert len(ranks[0]) == len(found[0])


@given(manifests(least=3), st.integers(1, 20))
def test_the_tail_is_dropped_or_filled_up(manifest: WindowManifest, size: int):
    """ "drop" leaves out less than a batch; "wrap" shows every window, and the first ones twice."""
    rows = sampler("unbalanced", manifest, 1).rows(0).tolist()
    wrapped = flat(sampler("unbalanced", manifest, size, last="wrap"))

    assert rows == wrapped[: len(rows)]
    assert len(wrapped) - len(rows) < size
    if len(rows) >= size:
        assert rows[: len(rows) // size * size] == flat(sampler("unbalanced", manifest, size))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 6, "world_size": 4}, "cannot be split evenly over 4 ranks"),
        ({"batch_size": 0}, "cannot be split"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2 does not exist"),
        ({"last": "pad"}, "last='pad' does not exist"),
        ({"draw": "free"}, "draw='free' does not exist"),
        ({"none_share": -1.0}, "cannot be drawn"),
        ({"full_share": float("nan")}, "cannot be drawn"),
        ({"batch_size": 100_000}, "make no batch of 100000"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str):
    """A sampler says what is wrong with its options, and what would be right."""
    with pytest.raises(UsageError, match=said) as refused:
        BalancedBatchSampler(CORPUS, **({"batch_size": 8, "seed": 1} | options)).order()
    assert refused.value.hint


# going on


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("worlds", [(1, 1), (1, 4), (4, 2)])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(kind: str, worlds: tuple[int, int]):
    """Stopped at 37 % of the second epoch, and continued elsewhere on any number of ranks: not one batch differs."""
    whole = sampler(kind)
    expected = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        expected += taken(whole)

    before = [sampler(kind, rank=rank, world_size=worlds[0]) for rank in range(worlds[0])]
    for some in before:
        taken(some)
        some.set_epoch(1)
        taken(some, int(0.37 * len(some)))
    saved = json.loads(json.dumps(before[0].state_dict()))
    after = [sampler(kind, rank=rank, world_size=worlds[1]) for rank in range(worlds[1])]
    found = []
    for some in after:
        some.load_state_dict(saved)
        rest = taken(some)
        some.set_epoch(2)
        found.append(rest + taken(some))

    joined = [flat(parts) for parts in zip(*found, strict=True)]
    assert expected[-len(joined) :] == joined
    assert len(expected) - len(joined) == len(whole) + int(0.37 * len(whole))


def test_what_was_read_ahead_does_not_count():
    """The position follows the training loop alone: batches that a loader drew from the sampler do not move it."""
    some = sampler("fixed")
    ahead = list(islice(some, 5))
    some.take()

    assert 1 == some.state_dict()["consumed"]
    assert ahead[1] == next(iter(some))


def test_a_state_is_small():
    """A position is a handful of values, however many windows there are."""
    state = sampler("fixed").state_dict()

    assert ["v", "store_id", "seed", "epoch", "consumed", "batch_size", "digest"] == list(state)
    assert len(json.dumps(state)) < 250


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "seed 42, this run has 1"),
        ({"batch_size": 16}, "batch_size 8, this run has 16"),
        ({"manifest": corpus(301)}, "store_id"),
        ({"none_share": 2.0}, "digest"),
        ({"draw": "redraw"}, "digest"),
    ],
)
def test_a_position_in_another_order_is_refused(other: dict[str, Any], said: str):
    """Going on with other windows, seed, batch size or draw is refused, and the sampler stays where it was."""
    usual: dict[str, Any] = {"manifest": CORPUS, "batch_size": 8, "seed": 42}
    state = BalancedBatchSampler(**usual).state_dict()
    changed = BalancedBatchSampler(**usual | other)
    changed.take()

    with pytest.raises(OrderChanged, match=said) as refused:
        changed.load_state_dict(state)
    assert (2, 1) == (refused.value.exit_code, changed.consumed)


def test_a_position_of_another_numpy_is_refused(monkeypatch: pytest.MonkeyPatch):
    """When numpy draws otherwise than when the position was saved, the digest tells, and the hint names numpy."""
    state = sampler("fixed").state_dict()
    usual = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: usual(seed + 1))

    with pytest.raises(OrderChanged, match="digest") as refused:
        sampler("fixed").load_state_dict(state)
    assert np.__version__ in refused.value.hint


@pytest.mark.parametrize(
    "change", [{"epoch": -1}, {"consumed": 10**9}, {"consumed": -1}, {"epoch": "1"}, {"consumed": None}, {"v": 2}]
)
def test_a_position_that_cannot_be_is_refused(change: dict[str, Any]):
    """A damaged or foreign position is refused."""
    some = sampler("fixed")

    with pytest.raises(OrderChanged):
        some.load_state_dict(some.state_dict() | change)


# evaluation


@given(manifests(), st.integers(1, 7), st.integers(1, 3))
def test_evaluation_shows_every_window_once_in_order(manifest: WindowManifest, size: int, world: int):
    """All ranks together show each window once; each shows whole recordings, in order of name and time."""
    ranks = [EvaluationSampler(manifest, size, rank=rank, world_size=world) for rank in range(world)]
    shown = [windows(manifest, flat(rank)) for rank in ranks]

    everything = sorted(windows(manifest, range(len(manifest))))
    assert everything == sorted(chain.from_iterable(shown))
    assert all(sorted(part) == part for part in shown)
    files = [{name for name, _ in part} for part in shown]
    assert sum(map(len, files)) == len(set().union(*files))
    assert [len(rank) for rank in ranks] == [len(list(rank)) for rank in ranks]


@given(manifests(), st.integers(1, 7))
def test_a_stride_covers_the_tail(manifest: WindowManifest, stride: int):
    """Of each recording every `stride`-th window is shown and the last, so that all of it is seen."""
    shown = windows(manifest, flat(EvaluationSampler(manifest, 4, stride=stride)))

    lengths = dict(zip(manifest.files, manifest.counts_by_file().sum(axis=1).tolist(), strict=True))
    expected = [
        (name, window)
        for name, length in lengths.items()
        for window in range(length)
        if window % stride == 0 or window == length - 1
    ]
    assert expected == shown


def test_ranks_evaluate_about_as_much():
    """No rank waits long for the others: their shares differ by a recording at most."""
    longest = int(CORPUS.counts_by_file().sum(axis=1).max())
    shares = [len(EvaluationSampler(CORPUS, 1, rank=rank, world_size=4)) for rank in range(4)]

    assert max(shares) - min(shares) <= 2 * longest
