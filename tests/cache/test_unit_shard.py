"""What splitting a plan must be: disjoint, complete, even, and the same for whoever reads the stored plan."""

import itertools
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache import Entry, Filters, Manifest, Shard, UsageError, plan_file
from tusz_cache.copying.journal import line, replay
from tusz_cache.errors import Damaged, PlanDiffers
from tusz_cache.plan import diff
from tusz_cache.plan_file import StoredPlan
from tusz_cache.shard import assign, sizes

KEYS = st.text('ab/.ü\u2028"\\', min_size=1, max_size=6)
ETAGS = st.one_of(st.none(), st.text("abc-0", max_size=4))
LISTED = st.dictionaries(KEYS, st.tuples(st.integers(0, 2**40), ETAGS), max_size=40).map(
    lambda rows: Manifest.of(Entry(key, size, etag) for key, (size, etag) in rows.items())
)
FILTERS = st.builds(Filters, st.just(()) | st.just(("a*",)), st.just(()) | st.just(("*b",)))


@given(LISTED, st.integers(1, 9))
def test_shards_are_disjoint_and_complete(listed: Manifest, count: int):
    """Each file is in exactly one shard."""
    parts = [Shard(index, count).part_of(listed) for index in range(1, count + 1)]

    assert listed == Manifest.merged(*parts)
    assert len(listed) == sum(map(len, parts))


@given(LISTED, st.integers(1, 9), st.randoms())
def test_the_order_of_a_listing_does_not_matter(listed: Manifest, count: int, chance):
    """A file's shard follows from the set of keys and sizes alone, not from ETags or the order they came in."""
    entries = [Entry(entry.key, entry.size, "other") for entry in listed]
    chance.shuffle(entries)

    assert assign(listed, count) == assign(Manifest.of(entries), count)


@given(LISTED, st.integers(1, 9))
def test_shards_are_even(listed: Manifest, count: int):
    """No two shards differ by more than the largest file, and shards of equal bytes by one file at most."""
    parts = sizes(listed, count)

    bytes_of = [size for _, size in parts]
    assert max(bytes_of) - min(bytes_of) <= max(listed.sizes, default=0)
    if not listed.bytes:
        assert max(files for files, _ in parts) - min(files for files, _ in parts) <= 1


def test_sixteen_shards_of_a_cache_are_within_a_file():
    """Files of 1 to 300 MB, as the cache has them, make shards that differ by less than a small file."""
    listed = Manifest.of(Entry(f"train/{n}.npz", 1_000_000 + n * 7919 % 299_000_000, "e") for n in range(2000))
    bytes_of = [size for _, size in sizes(listed, 16)]

    assert max(bytes_of) - min(bytes_of) < 2_000_000


def test_a_shard_is_read_as_it_is_written():
    """I/N counts from one."""
    assert (Shard(3, 16), "3/16", "3-of-16") == (Shard.parse("3/16"), str(Shard(3, 16)), Shard(3, 16).suffix)
    assert Shard(3, 16) == pickle.loads(pickle.dumps(Shard(3, 16)))
    assert [Shard(1, 2), Shard(2, 2)] == Shard.all(2)


@pytest.mark.parametrize(
    "text", ["", "3", "/", "3/", "/3", "0/4", "5/4", "1/0", "-1/4", "1/-4", "a/b", "1/4/4", "1/5000", "²/4"]
)
def test_what_is_no_shard_is_refused(text: str):
    """A shard that cannot be is exit 2, with a hint."""
    with pytest.raises(UsageError) as caught:
        Shard.parse(text)

    assert caught.value.hint


@pytest.mark.parametrize("count", [0, -1, 5000])
def test_a_number_of_shards_is_checked(count: int):
    """None or too many shards are exit 2."""
    with pytest.raises(UsageError):
        Shard.all(count)


# the stored plan


def stored(listed: Manifest, filters: Filters = Filters()) -> StoredPlan:  # noqa: B008 - a value
    return StoredPlan.of("s3://bucket/tusz", listed, 3, filters, 65536)


def read(data: bytes) -> StoredPlan:
    return plan_file.from_lines(data.splitlines(keepends=True), path="plan.jsonl")


@given(LISTED, FILTERS)
def test_a_plan_is_read_as_it_was_written(listed: Manifest, filters: Filters):
    """Reading gives the plan that was written, and writing that the same bytes."""
    plan = stored(listed, filters)
    data = b"".join(plan_file.to_lines(plan))

    assert plan == read(data)
    assert data == b"".join(plan_file.to_lines(read(data)))


@given(LISTED, FILTERS)
def test_a_stored_plan_has_the_name_of_the_plan(listed: Manifest, filters: Filters):
    """Its plan_id is the one that `diff` gives, whatever lies in a target."""
    assert diff(listed, Manifest(), filters=filters, seed="65536").plan_id == stored(listed, filters).plan_id


@given(LISTED, st.data())
def test_a_torn_plan_is_an_error(listed: Manifest, data: st.DataObject):
    """A plan that is cut anywhere, or with a byte changed, is exit 7 and says how to go on, or reads as it was."""
    plan = stored(listed)
    whole = b"".join(plan_file.to_lines(plan))
    at = data.draw(st.integers(0, len(whole) - 1))
    torn = data.draw(st.sampled_from([whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]]))
    try:
        found = read(torn)
    except Damaged as error:
        assert "--plan" in error.hint
    else:  # in the header, what no sum covers says nothing of what is copied
        assert (plan.plan_id, plan.listed, plan.filters) == (found.plan_id, found.listed, found.filters)


@pytest.mark.parametrize(
    "data", [b"", b"{}\n", b"[]\n", b"null\n", b'{"format": 1}\n', b'{"format": 2}\n', b"\xff\n", b"7"]
)
def test_what_is_no_plan_is_an_error(data: bytes):
    """Another program's file, or one of a later version, is exit 7."""
    with pytest.raises(Damaged):
        read(data)


def test_a_name_that_is_no_text_is_kept():
    """A source may list names that nobody can copy; filters leave them out, and the plan is stored nevertheless."""
    plan = stored(Manifest.of([Entry("a/\udcff", 1, "e"), Entry("b", 2, None)]), Filters(("b",)))

    assert plan == read(b"".join(plan_file.to_lines(plan)))


def test_many_rows_come_in_pieces():
    """A plan is written some thousand lines at a time, so that a million keys are never one string."""
    listed = Manifest.of(Entry(f"train/{n:06d}.npz", n, "e") for n in range(10_000))
    pieces = list(plan_file.to_lines(stored(listed)))

    assert max(piece.count(b"\n") for piece in pieces) < 5000
    assert listed == read(b"".join(pieces)).listed
    assert 10_000 == json.loads(pieces[0])["files"]


@pytest.mark.parametrize(
    ("source", "filters", "part_size", "named"),
    [
        ("s3://other/tusz", Filters(), 65536, "source"),
        ("s3://bucket/tusz", Filters(("a",)), 65536, "--include"),
        ("s3://bucket/tusz", Filters((), ("a",)), 65536, "--exclude"),
        ("s3://bucket/tusz", Filters(), 131072, "--part-size"),
    ],
)
def test_other_settings_are_of_another_plan(source: str, filters: Filters, part_size: int, named: str):
    """A shard that was started for something else is told what differs, exit 4."""
    plan = stored(Manifest.of([Entry("a", 1, "e")]))
    plan.check("s3://bucket/tusz", Filters(), 65536)
    with pytest.raises(PlanDiffers, match=named) as caught:
        plan.check(source, filters, part_size)

    assert (4, True) == (caught.value.exit_code, "--plan" in caught.value.hint)


def test_there_is_no_plan_where_none_was_written(tmp_path: Path):
    """Not every target has a plan."""
    assert plan_file.read(tmp_path / "plan.jsonl") is None


# several journals


def records(*kinds: str) -> st.SearchStrategy[list[tuple]]:
    kept = st.tuples(st.just("kept"), st.sampled_from("abc"), st.just(1), st.sampled_from("ef"))
    return st.lists(kept | st.tuples(st.sampled_from(kinds), st.sampled_from("abc")), max_size=8)


def records_of(drawn: list[tuple], first: int) -> list[list]:
    numbers = itertools.count(first)
    made: list[list] = []
    for kind, *rest in drawn:
        if kind == "kept":
            made.append(["kept", *rest, 7, "own-crc", 5, 0, []])
        elif kind == "begun":
            made.append(["file", next(numbers), *rest, 20, "e", 16])
        else:
            made.append([kind, *rest])
    return made


@given(records("gone", "doubt", "begun"), records("doubt", "begun"))
def test_two_journals_say_what_one_after_the_other_would(early: list[tuple], late: list[tuple]):
    """What a shard's journal says counts as if it stood behind the target's; what it names is begun nowhere else."""
    one, other = records_of(early, 0), records_of(late, 100)
    whole = replay(b"".join(map(line, [*one, *other])))
    later = replay(b"".join(map(line, other)))
    both = replay(b"".join(map(line, one))).then(later)

    for name in ("done", "started", "gone", "doubted"):
        assert getattr(whole, name) == getattr(both, name), name
    assert both.open == {k: claim for k, claim in whole.open.items() if k not in later.started or claim.number >= 100}
