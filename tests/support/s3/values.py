"""Values of the server: its settings, pieces of bodies, answers, objects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from fnmatch import fnmatchcase
from importlib import import_module
from io import FileIO
from typing import Any

DEFAULTS: dict[str, Any] = {
    "page_size": 1000,  # keys on a page of a listing, at most
    "credentials": None,  # or [{"access_key", "token", "expires_at": unix seconds or null}]
    "deny": [],  # globs of keys whose GET and HEAD are 403
    "deny_list": False,  # listing is 403
    "objects": {},  # {"bucket/key": {"text": ...}}: objects that are no files, with any key
    "etag": "md5",  # or "opaque", "multipart:<part_size>"
    "multipart_parts": {},  # {"bucket/key": [sizes]}: parts that are not all of one size
    "checksum": None,  # "crc64nvme", "crc32c", "crc32", "sha256", "composite:<alg>:<part_size>"
    "sse": None,  # or "aws:kms", whose ETags are no MD5
    "faults": [],
    "bytes_per_second": None,  # of each connection
    "latency": 0,  # seconds before each answer, listings included
}
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
BLOCK = 1 << 20

Source = FileIO | bytes  # a file is closed with the last reference to it
Body = list[tuple[Source, int, int]]  # (source, start, count) of one piece after the other


def read(source: Source, start: int, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[start : start + count]
    return os.pread(source.fileno(), count, start)


def digest(algorithm: str, blocks: Iterable[bytes]) -> bytes:
    """The raw digest, or the big-endian CRC, of the blocks."""
    if not algorithm.startswith("crc"):
        hasher = hashlib.new(algorithm)
        for block in blocks:
            hasher.update(block)
        return hasher.digest()
    # Loaded here, and so not by the tests that import S3Server: they may be about its absence.
    function, crc = getattr(import_module("awscrt.checksums"), algorithm), 0
    for block in blocks:
        crc = function(block, crc)
    return crc.to_bytes(8 if algorithm == "crc64nvme" else 4, "big")


def matches(pattern: str, bucket: str, key: str) -> bool:
    return fnmatchcase(key, pattern) or fnmatchcase(f"{bucket}/{key}", pattern)


@dataclass
class Reply:
    """An answer before any fault of its body, which begins at `start` of the object."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=list)
    start: int = 0

    @classmethod
    def text(cls, status: int, kind: str, text: str) -> Reply:
        data = text.encode("utf-8", "surrogateescape")
        return cls(status, {"Content-Type": kind}, [(data, 0, len(data))])


class S3Error(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        text = f"{XML}<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self.reply = Reply.text(status, "application/xml", text)


@dataclass
class Object:
    """One version of an object: an open file, or bytes in memory."""

    name: str
    source: Source
    size: int
    mtime: float
    version: tuple[Any, ...]  # whatever tells it from other objects and other versions

    def blocks(self, start: int, count: int) -> Iterator[bytes]:
        for at in range(start, start + count, BLOCK):
            yield read(self.source, at, min(BLOCK, start + count - at))


@dataclass
class Request:
    """What is asked, as far as an answer depends on it."""

    command: str
    args: dict[str, str]  # of the URL
    headers: Message
    index: bool  # for plain HTML links, without credentials
