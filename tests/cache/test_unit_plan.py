"""What deciding must be: complete, minimal, bound by the filters, and stopped by the limits."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import CacheError, DeleteLimit, EmptyListing, ForeignTarget, UsageError
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Filters, MaxDelete, Plan, check_limits, diff, plan_id

PROOF = Proof(crc64nvme=1, verified="source-crc", mtime_ns=1)
KEYS = ("a", "dev/a.npz", "dev/ä.npz", "dev/manifest.json", "train/a.npz", "train/b/c.npz", "trainz", "z*[!]")
GLOBS = ("*", "*.npz", "train/*", "dev/*", "*/a*", "nothing", "t?ain*", "a")

filters = st.builds(
    lambda include, exclude: Filters(tuple(include), tuple(exclude)),
    st.lists(st.sampled_from(GLOBS), max_size=2),
    st.lists(st.sampled_from(GLOBS), max_size=2),
)
subsets = st.none() | st.frozensets(st.sampled_from(KEYS))


def entries(proofs: st.SearchStrategy[Proof | None], etags: st.SearchStrategy[str | None]) -> st.SearchStrategy:
    """Return manifests over few keys, sizes and marks, so that sources and targets often agree."""
    made = st.builds(Entry, key=st.sampled_from(KEYS), size=st.integers(0, 2), etag=etags, proof=proofs)
    return st.lists(made, unique_by=lambda entry: entry.key).map(Manifest.of)


MARKS = st.sampled_from(["e1", "e2"])
sources = entries(st.none(), MARKS)
markless = entries(st.none(), st.none() | MARKS)
targets = entries(st.sampled_from([None, PROOF]), st.none() | MARKS)


def rows(items: Iterable[Entry]) -> set[tuple[str, int, str | None]]:
    return {(entry.key, entry.size, entry.etag) for entry in items}


def carried_out(plan: Plan, target: Manifest) -> Manifest:
    """Do what `plan` says, as a run with --delete does."""
    files = {entry.key: entry for entry in target}
    for entry in (*plan.copy, *plan.check):
        files[entry.key] = replace(entry, proof=PROOF)
    for entry in plan.delete:
        del files[entry.key]
    return Manifest.of(files.values())


@given(source=sources, target=targets, ours=subsets)
def test_a_plan_makes_the_target_equal_to_the_source(source: Manifest, target: Manifest, ours: frozenset[str] | None):
    """After a plan is carried out, the target holds the source's rows and nothing else but what was never ours."""
    plan = diff(source, target, ours=ours)
    result = carried_out(plan, target)

    strangers = set() if ours is None else set(target.keys) - set(source.keys) - ours
    assert strangers == set(plan.foreign)
    assert rows(source) == rows(entry for entry in result if entry.key not in strangers)


@given(source=sources, target=targets, ours=subsets)
def test_a_carried_out_plan_leaves_nothing_to_do(source: Manifest, target: Manifest, ours: frozenset[str] | None):
    """The plan after a plan copies, checks and deletes nothing."""
    result = carried_out(diff(source, target, ours=ours), target)
    again = diff(source, result, ours=None if ours is None else ours | set(source.keys))

    assert [[], [], []] == [again.copy.keys, again.check.keys, again.delete.keys]
    assert again.is_done
    assert source.keys == again.unchanged.keys


@given(source=markless, target=targets, ours=subsets)
def test_a_plan_is_minimal(source: Manifest, target: Manifest, ours: frozenset[str] | None):
    """A row is fetched only if no file of its size is there, and checked only if nothing proves it the same version."""
    plan = diff(source, target, ours=ours)

    here = {entry.key: entry for entry in target}
    sized = {entry.key for entry in source if entry.key in here and here[entry.key].size == entry.size}
    proven = {key for key in sized if here[key].proof and here[key].etag == source[key].etag and here[key].etag}
    assert set(source.keys) - sized == {entry.key for entry in plan.copy}
    assert sized - proven == {entry.key for entry in plan.check}
    assert [here[key] for key in source.keys if key in proven] == list(plan.unchanged)


@given(source=sources, target=targets, ours=subsets)
def test_only_what_is_ours_is_deleted(source: Manifest, target: Manifest, ours: frozenset[str] | None):
    """A plan deletes exactly the files of ours that the source lacks."""
    plan = diff(source, target, ours=ours)

    mine = set(target.keys) if ours is None else ours & set(target.keys)
    assert mine - set(source.keys) == {entry.key for entry in plan.delete}
    assert len(mine) == plan.held


@given(source=sources, target=targets, ours=st.frozensets(st.sampled_from(KEYS)))
def test_files_of_others_in_the_way_are_named(source: Manifest, target: Manifest, ours: frozenset[str]):
    """A file that was never ours is named: to be overwritten if its size differs, a guest if it may be equal."""
    plan = diff(source, target, ours=ours)

    strangers = (set(source.keys) & set(target.keys)) - ours
    assert {entry.key for entry in plan.copy} & strangers == set(plan.overwrites)
    assert {entry.key for entry in plan.check} & strangers == plan.guests


@given(source=sources, target=targets, ours=subsets, wanted=filters)
def test_a_key_out_of_scope_is_left_alone(
    source: Manifest, target: Manifest, ours: frozenset[str] | None, wanted: Filters
):
    """Under filters, keys in scope become the source's, all others stay as they are."""
    plan = diff(source, target, ours=ours, filters=wanted)
    result = carried_out(plan, target)

    named = {entry.key for entry in (*plan.copy, *plan.check, *plan.unchanged, *plan.delete)} | {*plan.foreign}
    assert set() == {key for key in named if not wanted.admit(key)}
    expected = rows(entry for entry in source if wanted.admit(entry.key)) | rows(
        entry for entry in target if not wanted.admit(entry.key) or entry.key in plan.foreign
    )
    assert expected == rows(result)


@pytest.mark.parametrize("wanted", [Filters(), Filters(include=("a/*", "b")), Filters(exclude=("a", "b/*", "b/*/*"))])
@pytest.mark.parametrize("ours", [None, frozenset(), frozenset(["a", "b/c", "b/d/e"])])
def test_what_is_in_the_way_is_named(wanted: Filters, ours: frozenset[str] | None):
    """A file where a folder must be, or below where a file must be, is named, whoever wrote it, filters or not."""
    source = Manifest.of(Entry(key, 1, "e") for key in ("a/x/y", "b"))
    target = Manifest.of(Entry(key, 1, "e") for key in ("a", "a-", "b/c", "b/d/e", "bb"))

    assert ("a", "b/c", "b/d/e") == diff(source, target, ours=ours, filters=wanted).conflicts
    assert () == diff(source, source, ours=ours, filters=wanted).conflicts


@pytest.mark.parametrize(
    ("include", "exclude", "key", "admitted"),
    [
        ((), (), "train/a.npz", True),
        (("train/*",), (), "train/a.npz", True),
        (("train/*",), (), "dev/a.npz", False),
        (("*.npz",), (), "train/deep/a.npz", True),  # a star crosses folders
        (("train/*", "dev/*"), (), "dev/a.npz", True),
        ((), ("dev/*",), "dev/a.npz", False),
        (("*",), ("dev/*",), "dev/a.npz", False),  # exclude wins
        (("Train/*",), (), "train/a.npz", False),  # case counts, also where the file system ignores it
        (("train",), (), "train/a.npz", False),  # a glob matches whole keys
        (("train/[ab].npz",), (), "train/b.npz", True),
        (("train/?.npz",), (), "train/ab.npz", False),
    ],
)
def test_globs_match_whole_keys(include: tuple[str, ...], exclude: tuple[str, ...], key: str, admitted: bool):
    """A key takes part if an include matches all of it, or there is none, and no exclude does."""
    assert admitted == Filters(include, exclude).admit(key)


def test_filters_that_admit_all_leave_no_trace():
    """The seal's form of filters names only those that were given."""
    assert {} == Filters().as_dict()
    assert {"exclude": ["b"]} == Filters(exclude=("b",)).as_dict()
    assert {"include": ["a"], "exclude": ["b"]} == Filters(("a",), ("b",)).as_dict()


# identity


@given(source=sources, target=targets, order=st.randoms(use_true_random=False), ours=subsets, wanted=filters)
def test_a_plans_name_ignores_order_and_target(source: Manifest, target: Manifest, order, ours, wanted: Filters):
    """Neither the order of the listing nor what the target holds changes what a plan is called."""
    shuffled = list(source)
    order.shuffle(shuffled)

    expected = diff(source, Manifest(), filters=wanted, seed="1").plan_id
    assert expected == diff(Manifest.of(shuffled), target, ours=ours, filters=wanted, seed="1").plan_id
    assert 16 == len(expected)


@given(one=sources, other=sources, wanted=filters)
def test_a_plans_name_tells_rows_apart(one: Manifest, other: Manifest, wanted: Filters):
    """Two plans under the same filters have the same name exactly if their rows in scope are the same."""
    seen, also = ({row for row in rows(source) if wanted.admit(row[0])} for source in (one, other))

    same = diff(one, Manifest(), filters=wanted).plan_id == diff(other, Manifest(), filters=wanted).plan_id
    assert (seen == also) == same


def test_a_plans_name_tells_filters_and_part_sizes_apart():
    """The same rows under other filters or with another part size make another plan."""
    source = Manifest.of([Entry("a", 1, "e")])
    names = {
        plan_id(source, Filters(), "1"),
        plan_id(source, Filters(), "2"),
        plan_id(source, Filters(include=("*",)), "1"),
        plan_id(source, Filters(exclude=("*",)), "1"),
        plan_id(Manifest.of([Entry("a", 1, None)]), Filters(), "1"),
        plan_id(Manifest.of([Entry("a1", 1, "e")]), Filters(), "1"),
    }

    assert 6 == len(names)


# limits


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("20", MaxDelete(count=20, percent=None)),
        ("0", MaxDelete(count=0, percent=None)),
        ("10%", MaxDelete(percent=10.0)),
        ("0%", MaxDelete(percent=0.0)),
        ("2.5%", MaxDelete(percent=2.5)),
        ("100%", MaxDelete(percent=100.0)),
    ],
)
def test_limits_are_counts_or_shares(text: str, limit: MaxDelete):
    """A limit is a number of files, or with a percent sign a share of them."""
    assert limit == MaxDelete.parse(text)


@pytest.mark.parametrize("text", ["", "%", "-1", "-1%", "101%", "1.5", "ten", "10%%", "10 %x", "nan", "nan%", "inf%"])
def test_what_is_no_limit_is_refused(text: str):
    """Text that is neither a count nor a share from 0 to 100% is a usage error that says how to write one."""
    with pytest.raises(UsageError) as caught:
        MaxDelete.parse(text)

    assert repr(text) in str(caught.value)
    assert "10%" in caught.value.hint


@given(st.integers(0, 10**6), st.integers(0, 100))
def test_a_share_is_rounded_down(held: int, percent: int):
    """A share never allows more than it says, and falls short of it by less than one file."""
    assert held * percent // 100 == MaxDelete.parse(f"{percent}%").allowed(held)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_count_does_not_depend_on_what_is_held(held: int, count: int):
    """A count allows that many deletions whatever the target holds."""
    assert count == MaxDelete.parse(str(count)).allowed(held)


ONE = Manifest.of([Entry("a", 1, "e")])
NONE = Manifest()
GONE = Manifest.of(Entry(f"gone{i}", 1, "e", PROOF) for i in range(3))
CHECK = Plan(check=Manifest.of([Entry("a", 1, "e")]), guests=frozenset({"a"}))
LOSES_THREE = Plan(delete=GONE, held=30)


@pytest.mark.parametrize(
    ("plan", "changes", "refusal"),
    [
        (Plan(), {}, None),
        # an empty source
        (Plan(), {"source": NONE}, EmptyListing),
        (Plan(), {"source": NONE, "allow_empty": True}, None),
        (Plan(), {"source": NONE, "adopt": True, "delete": True}, EmptyListing),
        # files that were never ours, in a target that is not ours yet
        (Plan(foreign=("x",)), {"target_is_ours": False}, ForeignTarget),
        (Plan(foreign=("x",)), {"target_is_ours": False, "adopt": True}, None),
        (Plan(foreign=("x",)), {"target_is_ours": True}, None),
        (CHECK, {"target_is_ours": False}, ForeignTarget),
        (CHECK, {"target_is_ours": False, "adopt": True}, None),
        (CHECK, {"target_is_ours": True}, None),
        # files that were never ours, to be overwritten
        (Plan(overwrites=("x",)), {"target_is_ours": True}, ForeignTarget),
        (Plan(overwrites=("x",)), {"target_is_ours": False}, ForeignTarget),
        (Plan(overwrites=("x",)), {"adopt": True}, None),
        # a file where a folder must be
        (Plan(conflicts=("x",)), {}, ForeignTarget),
        (Plan(conflicts=("x",)), {"adopt": True, "delete": True}, ForeignTarget),
        # deletions: 3 of 30
        (LOSES_THREE, {"delete": True, "max_delete": MaxDelete(count=3)}, None),
        (LOSES_THREE, {"delete": True, "max_delete": MaxDelete(count=2)}, DeleteLimit),
        (LOSES_THREE, {"delete": True, "max_delete": MaxDelete(count=0)}, DeleteLimit),
        (LOSES_THREE, {"delete": True, "max_delete": MaxDelete(percent=10)}, None),
        (LOSES_THREE, {"delete": True, "max_delete": MaxDelete(percent=9)}, DeleteLimit),
        (LOSES_THREE, {"delete": True, "max_delete": MaxDelete(percent=0)}, DeleteLimit),
        (LOSES_THREE, {"delete": False, "max_delete": MaxDelete(count=0)}, None),
        (LOSES_THREE, {"delete": True, "max_delete": MaxDelete(count=2), "adopt": True}, DeleteLimit),
        (Plan(held=30), {"delete": True, "max_delete": MaxDelete(count=0)}, None),
        # all at once: an empty listing says the least, so it is named first
        (replace(LOSES_THREE, overwrites=("x",)), {"source": NONE, "delete": True}, EmptyListing),
        (replace(LOSES_THREE, overwrites=("x",)), {"delete": True, "max_delete": MaxDelete(count=0)}, ForeignTarget),
    ],
)
def test_limits_refuse_before_anything_changes(plan: Plan, changes: dict, refusal: type[CacheError] | None):
    """A plan is refused exactly where a safety rule forbids it, with exit code 5 and a hint."""
    settings = {
        "source": ONE,
        "delete": False,
        "max_delete": MaxDelete(),
        "allow_empty": False,
        "adopt": False,
        "target_is_ours": True,
    } | changes
    caught: CacheError | None = None
    try:
        check_limits(plan, **settings)
    except CacheError as error:
        caught = error

    assert refusal == (type(caught) if caught else None)
    if caught:
        assert (5, True) == (caught.exit_code, bool(caught.hint))


# what a person and a script see


def test_a_plan_as_json_names_every_key():
    """The JSON form counts each kind and names what is copied, checked and deleted."""
    copy = Manifest.of([Entry("train/a.npz", 5, "e"), Entry("train/b.json", 7, "e")])
    check, gone = Manifest.of([Entry("c", 2, "e")]), GONE.select([0])
    plan = Plan(copy=copy, check=check, unchanged=GONE, delete=gone, foreign=("f",), plan_id="p")

    expected = {
        "plan_id": "p",
        "files": {"copy": 2, "check": 1, "unchanged": 3, "delete": 1, "leftover": 0, "foreign": 1},
        "bytes": {"copy": 12, "check": 2},
        "splits": {"train": {"files": 2, "npz": 1, "bytes": 12}},
        "copy": ["train/a.npz", "train/b.json"],
        "check": ["c"],
        "delete": ["gone0"],
    }
    assert expected == json.loads(json.dumps(plan.as_dict(delete=True)))


def test_a_plan_without_deletion_names_leftovers():
    """Where deletion was not asked for, what it would remove is counted as left over and not named."""
    shown = Plan(delete=GONE).as_dict(delete=False)

    assert (0, 3, []) == (shown["files"]["delete"], shown["files"]["leftover"], shown["delete"])


def test_a_plan_as_text_names_the_first_keys():
    """The text names ten keys of a kind, says how many more there are, and gives totals."""
    plan = Plan(copy=Manifest.of(Entry(f"train/{i:02d}.npz", 1000, "e") for i in range(12)), plan_id="0123")
    text = plan.as_text(delete=False)

    assert "plan 0123: 0 files unchanged" == text.splitlines()[0]
    assert "copy: 12 files, 12 kB" in text
    assert "train/09.npz" in text
    assert "train/10.npz" not in text
    assert "… and 2 more" in text
    assert "train: 12 files to copy (12 npz, 12 kB)" in text


@pytest.mark.parametrize(("delete", "verb"), [(True, "delete: 3 files"), (False, "--delete would remove): 3 files")])
def test_a_plan_as_text_says_whether_it_deletes(delete: bool, verb: str):
    """The text says of files that the source lacks whether they go or stay."""
    assert verb in Plan(delete=GONE).as_text(delete=delete)


def test_a_plan_as_text_admits_to_strangers():
    """The text counts files that are not ours and names one of them."""
    assert "not ours, left alone: 2 files, e.g. x" in Plan(foreign=("x", "y")).as_text(delete=True)
