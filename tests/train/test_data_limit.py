"""What the file limit of smoke runs must be: applied to every way of sampling, over patients, with seizures."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manifests import corpus
from tusz_cache import AdmittedCache, Category, UsageError
from tusz_train.data.dataset import open_datasets
from tusz_train.data.limit import choose_files, limited, only
from tusz_train.data.sampler import BalancedBatchSampler, EvaluationSampler, UnbalancedBatchSampler

ROWS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40)
CORPUS = corpus(300)

File = tuple[str, str, bool]  # name, patient, has a seizure


def files_of(rows: list[tuple[int, bool]]) -> list[File]:
    return [(f"p{patient}_s001_t{n:03d}_windows.npz", f"p{patient}", has) for n, (patient, has) in enumerate(rows)]


def choose(files: list[File], count: int, seed: int) -> tuple[str, ...]:
    names, patients, has = zip(*files, strict=True)
    return choose_files(names, patients, has, count, seed)


@given(ROWS, st.integers(1, 45), st.integers(0, 99), st.randoms(use_true_random=False))
def test_a_choice_depends_on_files_and_seed_alone(
    rows: list[tuple[int, bool]], count: int, seed: int, chance: random.Random
):
    """So many of the files are chosen, or all; the same ones however they are listed."""
    files = files_of(rows)
    chosen = choose(files, count, seed)

    assert min(count, len(files)) == len(set(chosen)) == len(chosen)
    assert set(chosen) <= {name for name, _, _ in files}
    chance.shuffle(files)
    assert chosen == choose(files, count, seed)


@given(ROWS, st.integers(1, 45), st.integers(0, 99))
def test_a_choice_has_seizures(rows: list[tuple[int, bool]], count: int, seed: int):
    """One file at least has a seizure if any has, one has none if there is room, and their share is kept to a file."""
    files = files_of(rows)
    has = {name: has for name, _, has in files}
    chosen = choose(files, count, seed)
    seizures = sum(has[name] for name in chosen)

    share = sum(has.values()) / len(has)
    assert abs(seizures - share * len(chosen)) <= 1
    assert any(has.values()) == (seizures > 0)
    if len(chosen) > 1 and not all(has.values()):
        assert seizures < len(chosen)


@given(ROWS, st.integers(1, 45), st.integers(0, 99))
def test_a_choice_is_over_patients(rows: list[tuple[int, bool]], count: int, seed: int):
    """No patient has two files with seizures chosen while another, who has one, has none."""
    files = files_of(rows)
    chosen = set(choose(files, count, seed))
    with_seizure = Counter(patient for name, patient, has in files if has and name in chosen)

    if any(times > 1 for times in with_seizure.values()):
        assert {patient for _, patient, has in files if has} == set(with_seizure)


def test_another_seed_chooses_others():
    """The run's seed decides, so that smoke runs can differ."""
    files = files_of([(number % 50, number % 5 == 0) for number in range(300)])

    assert choose(files, 20, 1) != choose(files, 20, 2)
    assert 20 == len({name.partition("_")[0] for name in choose(files, 20, 1)})


def test_a_limit_of_nothing_is_refused():
    """A limit of 0 would leave a run without data."""
    with pytest.raises(UsageError):
        choose(files_of([(0, True)]), 0, 0)


def test_a_limited_manifest_keeps_rows_and_their_order():
    """The windows of the chosen files stay as they were, so a limited draw is the draw of those files alone."""
    some = limited(CORPUS, 20, seed=3)
    kept = set(some.files)

    def rows(manifest: object) -> list[tuple[str, int, int]]:
        columns = zip(CORPUS.file_numbers, CORPUS.windows, CORPUS.categories, strict=True)
        return [(CORPUS.files[f], int(w), int(c)) for f, w, c in columns if CORPUS.files[f] in kept]

    found = zip(some.file_numbers, some.windows, some.categories, strict=True)
    assert rows(CORPUS) == [(some.files[f], int(w), int(c)) for f, w, c in found]
    assert 20 == len(some.files)
    assert CORPUS == only(CORPUS, CORPUS.files)


def test_failure_6_and_7_the_limit_holds_however_is_sampled(admitted: dict[str, AdmittedCache]):
    """Balanced, unbalanced and in evaluation: with a limit of 2 and 1, no other file is ever read."""
    datasets = open_datasets(admitted["npz"], limits={"train": 2, "dev": 1}, seed=0)
    train, dev = datasets["train"].manifest, datasets["dev"].manifest
    assert (2, 1) == (len(train.files), len(dev.files))
    assert train.counts()[Category.PARTIAL]

    for drawn in (
        BalancedBatchSampler(train, 1, seed=0).order(),
        BalancedBatchSampler(train, 1, seed=0, draw="redraw").rows(5),
        UnbalancedBatchSampler(train, 1, seed=0).order(),
        EvaluationSampler(train, 4).rows,
    ):
        assert set(range(2)) == set(train.file_numbers[drawn].tolist())
    store = datasets["train"].store
    whole = open_datasets(admitted["npz"])["train"]
    assert len(datasets["train"]) < len(whole)
    assert {store.locate(int(w))[0] for w in datasets["train"]._windows} == set(train.files)
