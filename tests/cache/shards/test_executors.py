"""Shards that an executor copies: in processes, lost on the way, failing."""

import pickle
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import SimpleNamespace

import pytest

from tests.cache.conftest import Bucket
from tests.cache.shards.conftest import QUIET, SIZES, Steps, populate
from tests.support.running import tree
from tusz_cache import Durability, UsageError, populate_cache
from tusz_cache.errors import Incomplete, PlanDiffers


def test_an_executor_copies_the_shards(steps: Steps, filled: Bucket):
    """With processes of a pool the cache is populated as without, and the report is of the whole."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        report = populate(steps, pool)
        again = populate(steps, pool)

    assert (True, len(SIZES), sum(SIZES.values())) == (report.sealed, report.files_copied, report.bytes_copied)
    assert (True, 0, len(SIZES)) == (again.sealed, again.files_copied, again.files_unchanged)
    assert (0, "") == (report.files_unchanged, report.shard)
    assert filled.contents() == tree(steps.target)


def test_all_that_is_submitted_pickles(steps: Steps):
    """An executor in other processes or on other machines gets functions and values that survive the way."""

    class Pickling:
        def submit(self, *call):
            fn, *arguments = pickle.loads(pickle.dumps(call))
            future: Future = Future()
            future.set_result(pickle.loads(pickle.dumps(fn(*arguments))))
            return future

    assert populate(steps, Pickling()).sealed


@pytest.mark.parametrize("error", [BrokenProcessPool("a worker died"), CancelledError()])
def test_a_lost_worker_is_said(steps: Steps, error: Exception):
    """A shard whose worker is gone makes the run incomplete, exit 3; the next run goes on."""

    class Losing:
        def submit(self, fn, *arguments):
            future: Future = Future()
            if arguments[2].index == 2:
                future.set_exception(error)
            else:
                future.set_result(fn(*arguments))
            return future

    with pytest.raises(Incomplete, match="shards 2/4 were lost") as caught:
        populate(steps, Losing())
    assert (3, False) == (caught.value.exit_code, steps.is_sealed)
    with ThreadPoolExecutor(2) as threads:
        report = populate(steps, threads)
    assert (True, True) == (report.sealed, 0 < report.files_unchanged < len(SIZES))


def test_a_pool_that_breaks_at_once_is_said(steps: Steps):
    """An executor that takes no more shards because its workers died is the same."""

    class Broken:
        def submit(self, *_):
            raise BrokenProcessPool("a worker died")

    with pytest.raises(Incomplete, match="shards 1/4, 2/4, 3/4, 4/4 were lost"):
        populate(steps, Broken())


def test_what_does_not_pickle_is_said(steps: Steps):
    """A commit that cannot be sent to other processes is a mistake in the settings: another run would not help."""
    durability = Durability("commit", commit=lambda: None)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(UsageError, match="pickle"):
        populate(steps, pool, durability=durability)


def test_a_bug_in_a_shard_is_a_bug(steps: Steps):
    """What is no loss of a worker comes up as it is."""
    raising = SimpleNamespace(submit=lambda *_: SimpleNamespace(result=lambda: 1 // 0))
    with pytest.raises(ZeroDivisionError):
        populate(steps, raising)


def test_failures_of_shards_are_in_the_report(steps: Steps, filled: Bucket):
    """Objects that fail are named, exit as in a plain sync, no seal."""
    filled.faults({"key": "dev/a.npz", "do": "status", "arg": 404, "method": "GET", "times": -1})
    with ThreadPoolExecutor(2) as threads:
        report = populate(steps, threads)

    assert (["dev/a.npz"], False) == ([failure.key for failure in report.failures], report.sealed)
    assert report.exit_code


def test_an_error_of_a_shard_is_that_of_the_run(steps: Steps, filled: Bucket, monkeypatch: pytest.MonkeyPatch):
    """A shard that cannot work at all ends the run with its error, after the others."""

    class Refusing(ThreadPoolExecutor):
        def submit(self, fn, *arguments):
            if arguments[2].index == 1:
                return super().submit(fn, "s3://no-such-bucket", *arguments[1:])
            return super().submit(fn, *arguments)

    with Refusing(2) as threads, pytest.raises(PlanDiffers):
        populate(steps, threads)
    assert not steps.is_sealed


def test_shards_need_an_executor(steps: Steps):
    """`shards` alone is exit 2, and so is a number that makes no sense."""
    for options in ({"shards": 4}, {"shards": 0, "executor": SimpleNamespace()}):
        with pytest.raises(UsageError):
            populate_cache(steps.bucket.url, steps.target, progress=QUIET, **options)
    assert not steps.target.exists()
