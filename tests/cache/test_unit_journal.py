"""What a journal must be: readable up to the last whole record, whatever happened to its end."""

import json
from pathlib import Path

import pytest
from awscrt.checksums import crc32c
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache import ssd
from tusz_cache.copying.journal import Journal, OpenFile, Replay, kept_record, line, replay
from tusz_cache.durability import Durability
from tusz_cache.entry import Entry, Proof
from tusz_cache.ssd import Target

KEYS = ("train/ä b.npz", "dev/\u2028\x85.npz", 'q"\\\n\r\t', "x")
CRC = (1 << 64) - 1
FILE = ["file", 0, "a", 20, "e", 16]
PART = ["part", 0, 1, 4, CRC]
DONE = ["done", 0, 7, "source-crc", 99, [1, 2]]


@st.composite
def journals(draw: st.DrawFn) -> list[list]:
    """Return records as a writer makes them: parts and ends only of files that were begun."""
    records: list[list] = []
    begun: list[int] = []
    number = 0
    for kind in draw(st.lists(st.sampled_from(["file", "part", "done", "kept", "gone", "doubt"]), max_size=12)):
        key, crc = draw(st.sampled_from(KEYS)), draw(st.integers(0, CRC))
        if kind == "file":
            records.append(["file", number, key, 10, draw(st.sampled_from([None, "e1", "e2"])), 4])
            begun.append(number)
            number += 1
        elif kind == "part" and begun:
            records.append(["part", draw(st.sampled_from(begun)), draw(st.integers(0, 2)), 4, crc])
        elif kind == "done" and begun:
            done = begun.pop(draw(st.integers(0, len(begun) - 1)))
            records.append(["done", done, crc, "own-crc", 5, draw(st.sampled_from([[], [1, 2, 3]]))])
        elif kind == "kept":
            records.append(["kept", key, 10, "e1", crc, "etag-md5", 5, 0, []])
        elif kind in {"gone", "doubt"}:
            records.append([kind, key])
    return records


def journal_of(*records: list) -> bytes:
    return b"".join(line(record) for record in records)


@given(journals())
def test_lines_are_those_that_every_version_wrote(records: list[list]):
    """A record's line is the CRC of what the standard library makes of it, a space, and that."""
    for record in records:
        body = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        assert b"%08x %s\n" % (crc32c(body), body) == line(record)


def said(state: Replay) -> tuple:
    """Everything a replay says, as one comparable value."""
    return list(state.done), state.open, state.started, state.gone, state.doubted, state.files, state.good_bytes


@given(journals())
def test_a_journal_cut_anywhere_is_read_up_to_its_last_whole_record(records: list[list]):
    """Every cut, at any byte, leaves a journal that says what its whole records say."""
    data, whole = b"", b""
    for record in records:
        data, whole = data + line(record), data
        expected = said(replay(whole))
        for cut in range(len(whole), len(data)):
            assert expected == said(replay(data[:cut]))
        assert len(whole) == expected[-1]

    assert len(data) == replay(data).good_bytes


@given(journals().filter(bool), st.data())
def test_a_flipped_byte_ends_reading_at_its_record(records: list[list], data: st.DataObject):
    """One wrong byte costs its record and those after it, and never adds or changes anything."""
    lines = [line(record) for record in records]
    victim = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[victim]) - 1))
    flip = data.draw(st.integers(1, 255))
    broken = bytearray(lines[victim])
    broken[at] ^= flip

    before = b"".join(lines[:victim])
    assert said(replay(before)) == said(replay(before + bytes(broken) + b"".join(lines[victim + 1 :])))


def test_every_flip_of_every_bit_is_noticed():
    """No single bit of a record can change unnoticed."""
    good = journal_of(FILE, PART, DONE)

    for at in range(len(good)):
        for bit in range(8):
            broken = bytearray(good)
            broken[at] ^= 1 << bit
            assert len(good) > replay(bytes(broken)).good_bytes


@given(journals(), journals())
def test_a_torn_tail_is_overwritten_by_what_follows(first: list[list], second: list[list]):
    """Cutting at the good length and going on reads like a journal that was never torn."""
    torn = journal_of(*first) + b"00000000 [torn"
    kept = torn[: replay(torn).good_bytes]
    shift = len(first)
    later = [[r[0], r[1] + shift, *r[2:]] if isinstance(r[1], int) else r for r in second]

    assert said(replay(journal_of(*first, *later))) == said(replay(kept + journal_of(*later)))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\n",
        b"garbage\n",
        b"00000000 []\n",
        b"00000000 \n",  # nothing has this CRC
        line(FILE)[:-1],
        line(FILE).replace(b"\n", b"\r\n"),
        line(FILE).replace(b" ", b"  ", 1),
        b" " + line(FILE),
        line(FILE)[:8].upper() + line(FILE)[8:] if line(FILE)[:8] != line(FILE)[:8].upper() else b"x" + line(FILE)[1:],
        b"\xff\xfe" * 30 + b"\n",
        b"\0" * 4096,
    ],
)
def test_a_line_that_is_not_exactly_a_record_ends_reading(bad: bytes):
    """What no writer wrote is not read, nor is anything behind it."""
    good = journal_of(["file", 0, "b", 1, None, 4])

    assert said(replay(good)) == said(replay(good + bad + (line(["gone", "b"]) if bad else b"")))


# what records mean


def test_a_file_begun_is_open_with_the_parts_it_claims():
    """A file without an end is open: its entry, its part size and its claimed parts are known, nothing is done."""
    state = replay(journal_of(FILE, PART, ["part", 0, 0, 16, 3], ["part", 0, 1, 4, 5]))

    assert {"a": OpenFile(0, Entry("a", 20, "e"), 16, {0: (16, 3), 1: (4, 5)})} == state.open
    assert ([], {"a"}, set(), 1) == (list(state.done), state.started, state.gone, state.files)


def test_a_done_file_has_its_proof():
    """A file with an end is done, with the proof that the record carries, and open no longer."""
    state = replay(journal_of(FILE, PART, DONE))

    assert [Entry("a", 20, "e", Proof(7, "source-crc", 99, 16, (1, 2)))] == list(state.done)
    assert ({}, {"a"}) == (state.open, state.started)


def test_a_file_in_one_part_keeps_no_parts():
    """A record without part checksums says nothing of a part size."""
    assert Proof(7, "own-crc", 9) == replay(journal_of(FILE, ["done", 0, 7, "own-crc", 9, []])).done["a"].proof


def test_a_file_begun_again_forgets_what_was_claimed():
    """A second beginning of a file drops the parts claimed before, as its bytes were wrong or another version's."""
    state = replay(journal_of(FILE, PART, ["file", 1, "a", 20, "e2", 16]))

    assert {"a": OpenFile(1, Entry("a", 20, "e2"), 16, {})} == state.open
    assert 2 == state.files


def test_a_file_done_and_begun_again_is_both():
    """While a new version is fetched, the old one still lies there durable."""
    state = replay(journal_of(FILE, DONE, ["file", 1, "a", 30, "e2", 16]))

    assert ("e", "e2") == (state.done["a"].etag, state.open["a"].entry.etag)


def test_a_deleted_file_is_gone_until_it_appears_again():
    """Deletion takes a file out of everything else; a later beginning takes it out of the deleted ones."""
    deleted = replay(journal_of(FILE, DONE, ["gone", "a"]))
    assert ([], {}, set(), {"a"}) == (list(deleted.done), deleted.open, deleted.started, deleted.gone)

    back = replay(journal_of(FILE, DONE, ["gone", "a"], ["file", 1, "a", 20, "e", 16]))
    assert ({"a"}, {"a"}, set()) == (set(back.open), back.started, back.gone)


def test_a_doubted_file_is_ours_without_proof():
    """Doubt takes back what was recorded before, here or in a manifest, and leaves the file ours; a new end counts."""
    doubted = replay(journal_of(FILE, DONE, ["doubt", "a"], ["doubt", "b"]))
    assert ([], {"a", "b"}, {"a", "b"}) == (list(doubted.done), doubted.started, doubted.doubted)

    again = replay(
        journal_of(FILE, DONE, ["doubt", "a"], ["file", 1, "a", 20, "e", 16], ["done", 1, 8, "own-crc", 9, []])
    )
    assert Proof(8, "own-crc", 9) == again.done["a"].proof


@given(st.builds(Proof, st.integers(0, CRC), st.just("etag-parts"), st.integers(0, 2**62), st.just(4), st.just((1, 2))))
def test_a_kept_file_is_done_as_it_was_recorded(proof: Proof):
    """A file that lay there already is read back with the very proof that was written."""
    entry = Entry(KEYS[2], 8, None, proof)
    state = replay(journal_of(["gone", entry.key], kept_record(entry)))

    assert ([entry], {entry.key}, set()) == (list(state.done), state.started, state.gone)


def test_records_of_a_later_version_are_passed_over():
    """A record of an unknown kind changes nothing and ends nothing."""
    state = replay(journal_of(FILE, ["novelty", 1, 2], DONE))

    assert (["a"], len(journal_of(FILE, ["novelty", 1, 2], DONE))) == (state.done.keys, state.good_bytes)


# writing


@pytest.fixture
def target(tmp_path: Path) -> Target:
    made = Target(tmp_path / "t", Durability("none"))
    ssd.prepare(made)
    return made


def test_a_journal_goes_on_behind_its_last_whole_record(target: Target):
    """Opening a torn journal cuts the tail, and new records and numbers follow on."""
    path = target.meta / "journal"
    path.write_bytes(journal_of(FILE, PART) + line(DONE)[:-3])

    book = Journal(target, replay(path.read_bytes()))
    number = book.number()
    book.record([["file", number, "b", 1, None, 4]], sync=True)
    book.close()

    assert 1 == number
    assert journal_of(FILE, PART, ["file", 1, "b", 1, None, 4]) == path.read_bytes()


def test_numbers_are_never_given_twice(target: Target):
    """File numbers go up from where the journal ended, also across runs."""
    given_out = []
    for _ in range(3):
        path = target.meta / "journal"
        book = Journal(target, replay(path.read_bytes() if path.exists() else b""))
        for _ in range(2):
            given_out.append(book.number())
            book.record([["file", given_out[-1], f"k{given_out[-1]}", 1, None, 4]])
        book.close()

    assert list(range(6)) == given_out


@pytest.mark.parametrize(("policy", "syncs"), [("fsync", 1), ("none", 0)])
def test_only_records_that_count_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, syncs: int):
    """Hints are appended without waiting for the disk; commits wait for it where the policy says so."""
    target = Target(tmp_path, Durability(policy))
    ssd.prepare(target)
    book = Journal(target, Replay())
    calls = []
    monkeypatch.setattr(ssd.os, "fdatasync", calls.append)
    book.record([FILE, PART])
    assert [] == calls

    book.record([DONE], sync=True)
    book.close()
    assert syncs == len(calls)
