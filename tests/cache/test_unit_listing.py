"""What listing a bucket must be: every object once, whatever the layout and the server, or an error."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.errors import AccessDenied, ListingBroken
from tusz_cache.stores.listing import AT_ONCE, listed, take_rows

SEGMENTS = ("a", "b", "b-", "ä", "")
KEYS = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map("/".join).map("p/".__add__)
LARGE = [f"p/{folder}/{number}" for folder in ("dev", "eval", "train") for number in range(5)]


@dataclass
class Server:
    """Answers ListObjectsV2 over `keys` as S3 does, or with one of the habits that other servers have."""

    keys: list[str]
    page: int = 3  # keys at most; the folders of a level fit
    knows_delimiter: bool = True
    counts_folders: bool = True
    order: Callable[[str], Any] = str
    spoil: Callable[[dict[str, Any], dict[str, Any]], object] = lambda asked, answer: None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        prefix, delimiter = asked["Prefix"], asked.get("Delimiter", "") if self.knows_delimiter else ""
        names = [key for key in self.keys if key.startswith(prefix)]
        if delimiter:
            pieces = (key[len(prefix) :].partition(delimiter) for key in names)
            names = list(dict.fromkeys(prefix + head + mark for head, mark, _ in pieces))
        names.sort(key=self.order)
        start, size = int(asked.get("ContinuationToken", 0)), asked.get("MaxKeys", self.page)
        some = names[start : start + size]
        folders = [name for name in some if delimiter and delimiter in name[len(prefix) :]]
        rows = [{"Key": name, "Size": 1, "ETag": '"e"'} for name in some if name not in folders]
        answer: dict[str, Any] = {"KeyCount": len(some) if self.counts_folders else len(rows)}
        answer |= {"Contents": rows} if rows else {}
        answer |= {"CommonPrefixes": [{"Prefix": folder} for folder in folders]} if folders else {}
        answer["IsTruncated"] = start + size < len(names)
        answer |= {"NextContinuationToken": str(start + size)} if answer["IsTruncated"] else {}
        self.spoil(asked, answer)
        return answer

    def list(self, prefix: str = "p/") -> list[str]:
        return [row["Key"] for row in listed(self, prefix)]


ORDERS = {"sorted": str, "backwards": lambda key: [-ord(char) for char in key], "any": lambda key: crc32(key.encode())}
servers = st.builds(
    Server,
    keys=st.lists(KEYS, unique=True),
    page=st.integers(1, 4),
    knows_delimiter=st.booleans(),
    counts_folders=st.booleans(),
    order=st.sampled_from([*ORDERS.values()]),
)


@given(servers)
def test_every_object_is_listed_once(server: Server):
    """Whatever the folders, the length of a page, the order of keys and the server's idea of a Delimiter."""
    assert sorted(server.keys) == sorted(server.list())


def test_folders_that_fill_pages_are_asked_for_by_themselves():
    """Several large folders are listed each by its own requests, so that these can run at once."""
    server = Server(LARGE)

    assert sorted(LARGE) == sorted(server.list())
    assert {"p/", "p/dev/", "p/eval/", "p/train/"} == {asked["Prefix"] for asked in server.asked}


@pytest.mark.parametrize(
    "keys",
    [
        [f"p/{number}" for number in range(9)],  # no folders
        [f"p/train/{number}" for number in range(9)],  # one folder
        [f"p/{number}/{name}" for number in range(9) for name in "xy"],  # folders smaller than a page
        ["p/a/1", "p/a/2"],  # all on one page
    ],
)
def test_other_layouts_cost_no_more_than_one_chain_and_a_look(keys: list[str]):
    """Where folders would not help, pages follow one another, with at most two requests more."""
    server = Server(keys)

    assert sorted(keys) == sorted(server.list())
    assert len(server.asked) <= -(-len(keys) // server.page) + 2


def denied(asked: dict[str, Any], what: str) -> None:
    if what in asked and asked[what] != "p/":
        raise AccessDenied("no", hint="no")


@pytest.mark.parametrize("what", ["Delimiter", "Prefix"])
def test_a_policy_for_one_prefix_is_enough(what: str):
    """Who may list the prefix alone, without a Delimiter or anything below it, gets the whole listing."""
    server = Server(LARGE, spoil=lambda asked, _: denied(asked, what))

    assert sorted(LARGE) == sorted(server.list())


def forgets(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    answer.pop("NextContinuationToken", None)


def loops(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    answer.update(IsTruncated=True, NextContinuationToken="2" if asked.get("ContinuationToken") == "3" else "3")


def miscounts(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    answer["KeyCount"] += 1


def empties(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    answer |= {"Contents": [], "KeyCount": 0, "IsTruncated": False}


def strays(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    answer.setdefault("Contents", [{}])[0] = {"Key": "elsewhere", "Size": 1}


def loses(asked: dict[str, Any], answer: dict[str, Any]) -> None:
    answer["Contents"] = answer["Contents"][1:]
    answer["KeyCount"] -= 1


BELOW = [forgets, loops, miscounts, empties, strays, loses]


@pytest.mark.parametrize("spoil", [forgets, loops, miscounts, strays])
@pytest.mark.parametrize("keys", [[f"p/{number}" for number in range(9)], LARGE], ids=["flat", "folders"])
def test_an_answer_that_contradicts_itself_breaks_the_listing(spoil, keys: list[str]):
    """No page is believed that lacks what it counts, leads nowhere or back, or names what was not asked for."""
    with pytest.raises(ListingBroken):
        Server(keys, spoil=spoil).list()


@pytest.mark.parametrize("spoil", BELOW)
@pytest.mark.parametrize("folder", ["p/dev/", "p/train/"])
def test_a_folder_that_contradicts_itself_breaks_the_listing(spoil, folder: str):
    """The same holds for each folder, which moreover cannot be empty or lack what the first page named."""

    def spoil_one(asked: dict[str, Any], answer: dict[str, Any]) -> None:
        first_page = "ContinuationToken" not in asked
        if asked["Prefix"] == folder and "MaxKeys" not in asked and (first_page or spoil is not loses):
            spoil(asked, answer)

    server = Server(LARGE, spoil=spoil_one)
    if (spoil, folder) == (loses, "p/train/"):
        assert sorted({*LARGE} - {"p/train/0"}) == sorted(server.list())  # nothing tells
    else:
        with pytest.raises(ListingBroken):
            server.list()


def test_only_a_few_pages_are_ahead_of_the_reader():
    """Who reads one row makes the server say a few pages, not all."""
    server = Server([f"p/{folder:02d}/{number:02d}" for folder in range(20) for number in range(60)], page=20)
    rows = listed(server, "p/")
    next(rows)
    rows.close()

    assert len(server.asked) <= 3 + 2 * AT_ONCE


# what is taken out of an answer before botocore reads it

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ROW = "<Contents><Key>{}</Key><LastModified>never</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>"


def answer_of(space: str, rows: str) -> dict[str, Any]:
    text = f"<ListBucketResult{space}><IsTruncated>true</IsTruncated>{rows}<Name>b</Name></ListBucketResult>"
    return {"status_code": 200, "body": text.encode()}


@pytest.mark.parametrize("space", [SPACE, ""])
def test_rows_are_taken_out_and_the_rest_stays(space: str):
    """The rows come as botocore would give them, without dates; everything else is left for botocore to read."""
    answer, taken = answer_of(space, ROW.format("a&amp;%20\u00e4") + ROW.format("b")), {}
    take_rows(answer, taken)

    assert [{"Key": key, "Size": "7", "ETag": '"e"'} for key in ("a&%20\u00e4", "b")] == taken["Contents"]
    assert b"Contents" not in answer["body"]
    assert [b"true" in answer["body"], b"b</" in answer["body"]] == [True, True]


@pytest.mark.parametrize(
    "answer",
    [
        {"status_code": 503, "body": answer_of(SPACE, ROW)["body"]},
        {"status_code": 200, "body": answer_of(SPACE, ROW)["body"][:-9]},
        {"status_code": 200, "body": b""},
        {"status_code": 200, "body": b"<Error><Code>SlowDown</Code></Error>"},
        answer_of(SPACE, "<Contents><Key>a</Key></Contents>"),
        answer_of(SPACE, ""),
    ],
)
def test_what_is_no_listing_is_left_as_it_is(answer: dict[str, Any]):
    """Errors, torn answers and rows that lack something are botocore's to judge."""
    before, taken = dict(answer), {}
    take_rows(answer, taken)

    assert (before, {}) == (answer, taken)
