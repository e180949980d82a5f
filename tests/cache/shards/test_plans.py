"""Plans that differ never mix: exit 4, nothing lost; a plan anew or a plain sync takes over what was done."""

import shutil
from pathlib import Path

import pytest

from tests.cache.conftest import Bucket
from tests.cache.shards.conftest import OURS, QUIET, SIZES, Steps
from tests.support.running import META, tree
from tusz_cache import Damaged, Filters, Shard, copy_shard
from tusz_cache.errors import Incomplete, PlanDiffers


def test_a_changed_object_is_exit_4(steps: Steps, filled: Bucket):
    """An object that was changed after the plan fails its shard with exit 4; a new plan takes all other work over."""
    steps.plan()
    steps.shard(1)
    steps.shard(2)
    changed = next(key for key in SIZES if not (steps.target / key).exists())
    filled.put(changed, SIZES[changed])
    report = steps.shard(3)

    assert 4 == report.exit_code
    assert [changed] == [failure.key for failure in report.failures]
    assert "--plan instead of --shard" in report.next_step
    with pytest.raises(Incomplete, match=changed):
        steps.finish()
    plan = steps.plan()
    assert [changed] == plan.copy.keys
    assert 1 == sum(report.files_copied for report in steps.shards(4))
    assert steps.finish().sealed
    assert filled.contents() == tree(steps.target)


@pytest.mark.parametrize("changes", [{"part_size": 2 * 64 * 1024}, {"filters": Filters(("train/*",))}])
def test_other_settings_are_exit_4(steps: Steps, changes: dict):
    """A shard or a finisher that was started with what makes another plan stops, exit 4."""
    steps.plan()
    for step in (lambda: steps.shard(1, **changes), lambda: steps.finish(**changes)):
        with pytest.raises(PlanDiffers) as caught:
            step()
        assert 4 == caught.value.exit_code


def test_another_source_is_exit_4(steps: Steps, filled: Bucket):
    """A shard of another source does not carry out this source's plan."""
    steps.plan()
    with pytest.raises(PlanDiffers, match="source"):
        copy_shard(f"{filled.url}/train", steps.target, Shard(1, 3), settings=filled.settings(), progress=QUIET)


def test_another_number_of_shards_is_exit_4(steps: Steps):
    """Two ways to split one plan never mix; writing the plan anew takes over what was done, and any number goes."""
    steps.plan()
    done = steps.shard(1, 3)
    with pytest.raises(PlanDiffers, match="journal-1-of-3"):
        steps.shard(2, 4)
    assert "journal-2-of-4" not in steps.names
    steps.shard(2, 3)
    plan = steps.plan()

    assert len(plan.unchanged) > done.files_copied
    assert {"journal", "lock", "partial", "plan.jsonl"} == steps.names - {"leftovers.jsonl", "manifest.jsonl"}
    steps.shards(4)
    assert steps.finish().sealed


def test_a_journal_of_another_plan_is_exit_4(steps: Steps, filled: Bucket, tmp_path: Path):
    """Shards that planned apart, on machines that do not see each other, are found out: exit 4, and nothing is lost."""
    steps.plan()
    steps.shard(1)
    elsewhere = Steps(filled, tmp_path / "elsewhere")
    shutil.copytree(steps.target, elsewhere.target)
    filled.put("dev/a.npz", 150_000)
    elsewhere.plan()
    shutil.copy(elsewhere.target / META / "plan.jsonl", steps.target / META / "plan.jsonl")  # the last writer won
    for step in (lambda: steps.shard(1), steps.finish):
        with pytest.raises(PlanDiffers, match="plan"):
            step()
    steps.plan()
    steps.shards()

    assert steps.finish().sealed
    assert filled.contents() == tree(steps.target)


def test_a_plan_anew_loses_nothing(steps: Steps, filled: Bucket):
    """Writing the plan again, as a platform that retries does, keeps what shards have copied."""
    first = steps.plan()
    reports = steps.shards()
    again = steps.plan()

    assert first.plan_id == again.plan_id
    assert sum(report.files_copied for report in reports) == len(again.unchanged)
    sent = filled.server.stats()["bytes"]
    assert steps.finish().sealed
    assert sent == filled.server.stats()["bytes"]


def test_a_torn_plan_is_written_anew(steps: Steps):
    """A plan that cannot be read stops a shard with exit 7; `--plan` mends that."""
    steps.plan()
    path = steps.target / META / "plan.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(Damaged):
        steps.shard(1)
    steps.plan()
    steps.shards()

    assert steps.finish().sealed


def test_a_plain_sync_takes_finished_work_over(steps: Steps, filled: Bucket):
    """`sync` on a target with a plan and journals of shards copies the rest only, and seals."""
    steps.plan()
    done = steps.shard(1).files_copied
    report = filled.sync(steps.target)

    assert (done, len(SIZES) - done, True) == (report.files_unchanged, report.files_copied, report.sealed)
    assert OURS - {"journal"} == steps.names
    assert filled.contents() == tree(steps.target)
