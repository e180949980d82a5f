"""What goes wrong, as scripted.

A fault is {"do", "key": glob of KEY or BUCKET/KEY (of the prefix for LIST), "method": "GET" | "HEAD" | "LIST",
"times": 1 (-1: always), "skip": 0, "arg"}. A request meets one fault at most: the first that matches, skips no more
and has times left. What they do:
  short            the body ends after `arg` bytes of a longer Content-Length, and so does the connection
  short_chunkless  the same without a Content-Length
  short_length     the same with a Content-Length of `arg`; the connection stays
  flip, dup        byte `arg` is inverted; the 64 KiB at `arg` (0) take the place of the next 64 KiB, too
  ignore_range, ignore_if_match, no_etag, other_etag, wrong_content_range, status200_with_content_range
                   as named
  status           status `arg` with an XML error, of the fault's "code" if it has one
  slow, stall      `arg` seconds of silence before the answer, or at half of the body
  trickle, reset   `arg` bytes a second; RST at half of the body
  change, delete   the object gets other bytes of the same length, or goes, before the answer
  truncate_xml, empty_list, drop_page
                   LIST: half of the XML, no keys, a truncated page without a token
"""

from __future__ import annotations

import re
from typing import Any

from tests.support.s3.values import Body, matches, read

FAULTS = set(re.findall(r"\w+", """short short_chunkless short_length flip dup ignore_range no_etag other_etag
    status200_with_content_range wrong_content_range ignore_if_match status slow stall trickle reset change delete
    truncate_xml empty_list drop_page"""))  # fmt: skip


def take(faults: list[dict[str, Any]], method: str, bucket: str, key: str) -> dict[str, Any]:
    """Finds what shall go wrong with a request, and counts that it has."""
    for fault in faults:
        times, skip = fault.get("times", 1), fault.get("skip", 0)
        alike = fault.get("method", "GET") == method and matches(fault.get("key", "*"), bucket, key)
        if alike and skip:
            fault["skip"] = skip - 1
        elif alike and times:
            fault["times"] = times - 1 if times > 0 else times
            return fault
    return {}


def cut(body: Body, start: int, stop: int) -> Body:
    """The pieces of body[start:stop]."""
    pieces: Body = []
    for source, first, count in body:
        low, high = max(start, 0), min(stop, count)
        if low < high:
            pieces.append((source, first + low, high - low))
        start, stop = start - count, stop - count
    return pieces


def spoil(body: Body, fault: dict[str, Any]) -> Body:
    """What a fault makes of a body."""
    do, at = fault.get("do"), int(fault.get("arg") or 0)
    length = sum(count for *_, count in body)
    if do in ("short", "short_chunkless", "short_length"):
        return cut(body, 0, at)
    if do == "truncate_xml":
        return cut(body, 0, length // 2)
    if do == "flip":
        flipped = bytes(255 - byte for piece in cut(body, at, at + 1) for byte in read(*piece))
        return [*cut(body, 0, at), (flipped, 0, len(flipped)), *cut(body, at + 1, length)]
    if do == "dup":
        end = at + min(1 << 16, (length - at) // 2)
        return cut(body, 0, end) + cut(body, at, end) + cut(body, 2 * end - at, length)
    return body
