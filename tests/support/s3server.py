"""A scripted loopback S3 server for tests and benches: a directory served as path-style S3.

    with S3Server(root, page_size=2, faults=[{"key": "a/*", "do": "flip", "arg": 7}]) as server:
        ...  # boto3.client("s3", endpoint_url=server.url)
        server.stats()["ranges"]["bucket/a/b"]  # [[start, sent], ...], one pair for each GET

`/BUCKET/KEY` is ROOT/BUCKET/KEY; `/_index/BUCKET/dir/` is the same tree as plain HTML links, without credentials.
All settings are in DEFAULTS; `configure` replaces those that it is given.

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

import argparse
import base64
import bisect
import calendar
import hashlib
import html
import json
import os
import re
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from io import FileIO
from itertools import accumulate
from socket import SO_LINGER, SOL_SOCKET
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote_to_bytes

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
FAULTS = set(re.findall(r"\w+", """short short_chunkless short_length flip dup ignore_range no_etag other_etag
    status200_with_content_range wrong_content_range ignore_if_match status slow stall trickle reset change delete
    truncate_xml empty_list drop_page"""))  # fmt: skip
CODES = {400: "InvalidRequest", 403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
CHECKSUM_MODE = "x-amz-checksum-mode"  # a header, or an argument of a presigned URL
BLOCK = 1 << 20
SUCCESSOR = bytes((byte + 1) % 256 for byte in range(256))

Source = FileIO | bytes  # a file is closed with the last reference to it
Body = list[tuple[Source, int, int]]  # (source, start, count) of one piece after the other


def cut(body: Body, start: int, stop: int) -> Body:
    """The pieces of body[start:stop]."""
    pieces: Body = []
    for source, first, count in body:
        low, high = max(start, 0), min(stop, count)
        if low < high:
            pieces.append((source, first + low, high - low))
        start, stop = start - count, stop - count
    return pieces


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


def range_span(header: str, size: int) -> tuple[int, int] | None:
    """From where to where a Range goes; None, as S3 has it, if it is no single range."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    first, last = match.groups() if match else ("", "")
    if not first + last or (first and last and int(first) > int(last)):
        return None
    start = int(first) if first else max(0, size - int(last))
    if start >= size:
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    return start, min(size, int(last) + 1) if first and last else size


def matches(pattern: str, bucket: str, key: str) -> bool:
    return fnmatchcase(key, pattern) or fnmatchcase(f"{bucket}/{key}", pattern)


def escape(text: str) -> str:
    """As S3 does it: control characters become references, though XML 1.0 has no `&#x0;`."""
    return re.sub(r"[\x00-\x1f]", lambda char: f"&#x{ord(char[0]):x};", html.escape(text))


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


class Server(ThreadingHTTPServer):
    """The settings, the counts, and the objects under `root`."""

    request_queue_size = 1024

    def __init__(self, root: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.started = os.path.abspath(root), time.time()
        self.settings = dict(DEFAULTS)
        self.lock = threading.Lock()  # of the settings and the counts
        self.digest_lock = threading.Lock()
        self.digests: dict[tuple[Any, ...], bytes] = {}
        self.listings: dict[tuple[str, ...], list[str]] = {}
        self.reset()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that hangs up is no error
            super().handle_error(request, client_address)

    def configure(self, changes: dict[str, Any]) -> None:
        unknown = changes.keys() - DEFAULTS.keys()
        unknown |= {fault["do"] for fault in changes.get("faults", [])} - FAULTS
        if unknown:
            raise ValueError(f"unknown settings or faults: {sorted(unknown)}")
        with self.lock:
            self.settings = {**self.settings, **changes}

    def reset(self) -> None:
        with self.lock:
            self.requests = Counter(GET=0, HEAD=0, LIST=0)
            self.statuses: Counter[int] = Counter()
            self.ranges: dict[str, list[list[int]]] = {}

    def stats(self) -> str:
        with self.lock:
            total = sum(sent for spans in self.ranges.values() for _, sent in spans)
            counts = {"requests": self.requests, "statuses": self.statuses, "ranges": self.ranges}
            return json.dumps({"bytes": total, **counts})

    def take_fault(self, method: str, bucket: str, key: str) -> dict[str, Any]:
        """Counts the request, and finds what shall go wrong with it."""
        with self.lock:
            self.requests[method] += 1
            faults: list[dict[str, Any]] = self.settings["faults"]
            for fault in faults:
                times, skip = fault.get("times", 1), fault.get("skip", 0)
                alike = fault.get("method", "GET") == method and matches(fault.get("key", "*"), bucket, key)
                if alike and skip:
                    fault["skip"] = skip - 1
                elif alike and times:
                    fault["times"] = times - 1 if times > 0 else times
                    return fault
        return {}

    def path(self, bucket: str, key: str) -> str:
        """Where the file of a key is; "" if no file can have that key."""
        unlike = any(part in ("", ".", "..") or "\0" in part for part in key.split("/"))
        return "" if unlike else f"{self.root}/{bucket}/{key}"

    def open(self, bucket: str, key: str) -> Object:
        name = f"{bucket}/{key}"
        if memory := self.settings["objects"].get(name):
            data = memory["text"].encode()
            return Object(name, data, len(data), self.started, (name, data))
        # Opened before it is measured, so that size, ETag and bytes are those of one version.
        try:
            source = FileIO(self.path(bucket, key))
        except OSError:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.") from None
        about = os.fstat(source.fileno())
        version = (name, about.st_size, about.st_mtime_ns, about.st_ino)
        return Object(name, source, about.st_size, about.st_mtime, version)

    def change(self, bucket: str, key: str) -> None:
        """Puts other bytes of the same length in place at once: open files keep the old ones."""
        path = self.path(bucket, key)
        if memory := self.settings["objects"].get(f"{bucket}/{key}"):
            memory["text"] = "".join(chr(ord(char) ^ 1) for char in memory["text"])
        elif os.path.isfile(path):
            scratch = f"{self.root}/.changed-{threading.get_ident()}"
            with open(path, "rb") as old, open(scratch, "wb") as new:
                while block := old.read(BLOCK):
                    new.write(block.translate(SUCCESSOR))
            # A second later at least, so that Last-Modified differs too.
            mtime = max(time.time_ns(), os.stat(path).st_mtime_ns + 10**9)
            os.utime(scratch, ns=(mtime, mtime))
            os.replace(scratch, path)

    def delete(self, bucket: str, key: str) -> None:
        if not self.settings["objects"].pop(f"{bucket}/{key}", None):
            with suppress(OSError):
                os.unlink(self.path(bucket, key))

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """In code point order, which is the order of UTF-8 bytes."""
        names = (name.partition("/") for name in self.settings["objects"])
        keys = {key for owner, _, key in names if owner == bucket}
        folder = prefix.rpartition("/")[0]
        top = self.path(bucket, folder) if folder else f"{self.root}/{bucket}"
        for where, _, files in os.walk(top) if top else ():
            start = where[len(self.root) + len(bucket) + 2 :]
            keys.update(os.path.join(start, file) for file in files)
        return sorted(key for key in keys if key.startswith(prefix))

    def entries(self, bucket: str, prefix: str, delimiter: str, after: str, more: bool) -> list[str]:
        """The keys and common prefixes that follow `after`."""
        listing = (bucket, prefix, delimiter)
        if not more:  # later pages go on in what the first one found: walks for all would take quadratic time
            keys = self.keys(bucket, prefix)
            if delimiter:
                pieces = (key[len(prefix) :].partition(delimiter) for key in keys)
                keys = list(dict.fromkeys(f"{prefix}{head}{mark}" for head, mark, _ in pieces))
            self.listings[listing] = keys
        found = self.listings[listing]
        return found[bisect.bisect_right(found, after) :]

    def parts(self, obj: Object, rule: str | None) -> list[int] | None:
        """The sizes of an object's parts, if `rule`, an etag or checksum setting, has parts."""
        declared: list[int] | None = self.settings["multipart_parts"].get(obj.name)
        if declared:
            if sum(declared) != obj.size:
                raise S3Error(500, "InternalError", f"multipart_parts do not sum to {obj.size}")
            return declared
        kind, _, size = (rule or "").rpartition(":")
        if not kind:
            return None
        return [min(int(size), obj.size - at) for at in range(0, obj.size or 1, int(size))]

    def digest(self, obj: Object, algorithm: str, parts: list[int] | None) -> bytes:
        """Of the whole object or of the digests of its parts; worked out once a version."""
        about = (obj.version, algorithm, tuple(parts or ()))
        with self.digest_lock:
            if about not in self.digests:
                sizes = parts or [obj.size]
                spans = zip(accumulate(sizes, initial=0), sizes, strict=False)
                each = [digest(algorithm, obj.blocks(*span)) for span in spans]
                self.digests[about] = digest(algorithm, each) if parts else each[0]
            return self.digests[about]

    def etag(self, obj: Object) -> str:
        rule, sse = self.settings["etag"], self.settings["sse"]
        parts = self.parts(obj, rule)
        opaque = hashlib.sha256(repr((obj.version, sse)).encode()).hexdigest()
        if rule == "opaque":
            return f'"{opaque[:16]}-x"'
        value = opaque[:32] if sse else self.digest(obj, "md5", parts).hex()
        return f'"{value}-{len(parts)}"' if parts else f'"{value}"'

    def checksum(self, obj: Object) -> dict[str, str]:
        """The headers that tell the object's checksum."""
        rule: str | None = self.settings["checksum"]
        if rule is None:
            return {}
        composite = rule.startswith("composite:")
        algorithm = rule.split(":")[1] if composite else rule
        parts = self.parts(obj, rule) if composite else None
        value = base64.b64encode(self.digest(obj, algorithm, parts)).decode()
        kind, value = ("COMPOSITE", f"{value}-{len(parts)}") if parts else ("FULL_OBJECT", value)
        return {f"x-amz-checksum-{algorithm}": value, "x-amz-checksum-type": kind}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "AmazonS3", ""
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_PUT(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = Reply.text(200, "application/json", "{}")
        try:
            if self.path == "/_settings":
                self.server.configure(json.loads(text))
            elif self.path == "/_reset":
                self.server.reset()
            else:
                reply = S3Error(501, "NotImplemented", "This server is read-only.").reply
        except (ValueError, LookupError, TypeError) as error:
            reply = Reply.text(400, "text/plain", repr(error))
        self.send(reply, {}, [0, 0])

    do_POST = do_PUT

    def do_GET(self) -> None:
        if self.path == "/_stats":
            self.send(Reply.text(200, "application/json", self.server.stats()), {}, [0, 0])
            return
        path, _, query = self.path.partition("?")
        self.args = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
        name = unquote_to_bytes(path[1:].encode("latin-1")).decode("utf-8", "surrogateescape")
        self.index = name.startswith("_index/")
        bucket, _, key = name.removeprefix("_index/").partition("/")
        if self.index and os.path.isdir(self.server.path(bucket, key)):
            key += "/"  # fsspec leaves it out
        folder = not key or (self.index and key.endswith("/"))
        method = "LIST" if folder and self.command == "GET" else self.command
        fault = self.server.take_fault(method, bucket, key or self.args.get("prefix", ""))
        slow = fault["arg"] if fault.get("do") == "slow" else 0
        time.sleep(self.server.settings["latency"] + slow)
        try:
            if fault.get("do") == "status":
                code = fault.get("code") or CODES.get(fault["arg"], "InternalError")
                raise S3Error(fault["arg"], code, "As scripted.")
            self.authorize(bucket, key, folder)
            reply = (self.list_folder if folder else self.get_object)(bucket, key, fault)
        except S3Error as error:
            reply, fault = error.reply, {}
        span = [reply.start, 0]
        with self.server.lock:
            self.server.statuses[reply.status] += 1
            if method == "GET" and reply.status < 300:
                self.server.ranges.setdefault(f"{bucket}/{key}", []).append(span)
        self.send(reply, fault, span)

    do_HEAD = do_GET

    def authorize(self, bucket: str, key: str, folder: bool) -> None:
        """Whether the request may see the bucket or the object. Signatures are not checked."""
        args, settings = self.args, self.server.settings
        if "X-Amz-Expires" in args:
            signed = calendar.timegm(time.strptime(args["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
            if signed + int(args["X-Amz-Expires"]) < time.time():
                raise S3Error(403, "AccessDenied", "Request has expired")
        if settings["credentials"] is not None and not self.index:
            header = re.search("Credential=([^,]+)", self.headers.get("Authorization", ""))
            scope = args.get("X-Amz-Credential", header[1] if header else "")
            token = args.get("X-Amz-Security-Token", self.headers.get("X-Amz-Security-Token"))
            if not scope:
                raise S3Error(403, "AccessDenied", "Access Denied")
            known = {each["access_key"]: each for each in settings["credentials"]}
            credential = known.get(scope.partition("/")[0])
            if credential is None:
                raise S3Error(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist.")
            if (expiry := credential.get("expires_at")) is not None and expiry <= time.time():
                raise S3Error(403, "ExpiredToken", "The provided token has expired.")
            if credential.get("token") and credential["token"] != token:
                raise S3Error(400, "InvalidToken", "The provided token is malformed or invalid.")
        globs = settings["deny"]
        if settings["deny_list"] if folder else any(matches(each, bucket, key) for each in globs):
            raise S3Error(403, "AccessDenied", "Access Denied")
        if bucket in ("", ".", "..") or not os.path.isdir(f"{self.server.root}/{bucket}"):
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")

    def list_folder(self, bucket: str, folder: str, fault: dict[str, Any]) -> Reply:
        args, server, do = self.args, self.server, fault.get("do")
        if self.index:
            names = server.entries(bucket, folder, "/", folder, False)
            urls = (quote(f"/_index/{bucket}/{name}", errors="surrogateescape") for name in names)
            return Reply.text(200, "text/html", "".join(f'<a href="{url}">.</a>\n' for url in urls))
        if self.command == "HEAD":
            return Reply()
        if args.get("list-type") != "2":
            raise S3Error(501, "NotImplemented", "Of listings, only ListObjectsV2 is served.")
        prefix, delimiter = args.get("prefix", ""), args.get("delimiter", "")
        token, start_after = args.get("continuation-token"), args.get("start-after", "")
        after = base64.b64decode(token).decode("utf-8", "surrogateescape") if token else start_after
        entries = server.entries(bucket, prefix, delimiter, after, token is not None)
        size = min(int(args.get("max-keys", 1000)), server.settings["page_size"])
        page = [] if do == "empty_list" else entries[:size]
        more = 0 < len(page) < len(entries) and do != "drop_page"
        following = base64.b64encode(page[-1].encode("utf-8", "surrogateescape")).decode() if more else ""

        def encode(text: str) -> str:
            url = args.get("encoding-type") == "url"  # in which S3 writes a space as "+"
            return quote_plus(text, "/*", errors="surrogateescape") if url else escape(text)

        rows = []
        for name in page:
            if delimiter and delimiter in name[len(prefix) :]:
                rows.append(f"<CommonPrefixes><Prefix>{encode(name)}</Prefix></CommonPrefixes>")
                continue
            with suppress(S3Error):  # it may be gone by now
                obj = server.open(bucket, name)
                modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(obj.mtime))
                about = f"<Key>{encode(name)}</Key><LastModified>{modified}</LastModified><Size>{obj.size}</Size>"
                about += f"<ETag>{escape(server.etag(obj))}</ETag><StorageClass>STANDARD</StorageClass>"
                rows.append(f"<Contents>{about}</Contents>")
        fields = {
            "Delimiter": encode(delimiter),
            "StartAfter": encode(start_after),
            "EncodingType": args.get("encoding-type", ""),
            "ContinuationToken": token or "",
            "NextContinuationToken": following,
            "IsTruncated": "true" if more or do == "drop_page" else "false",
        }
        head = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items() if text)
        head += f"<Name>{bucket}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{size}</MaxKeys>"
        text = f"{head}<KeyCount>{len(rows)}</KeyCount>{''.join(rows)}"
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        return Reply.text(200, "application/xml", f'{XML}<ListBucketResult xmlns="{space}">{text}</ListBucketResult>')

    def get_object(self, bucket: str, key: str, fault: dict[str, Any]) -> Reply:
        args, server, do = self.args, self.server, fault.get("do")
        if do in ("change", "delete"):
            getattr(server, do)(bucket, key)
        obj = server.open(bucket, key)
        etag = server.etag(obj)
        wanted = self.headers.get("If-Match", "*").strip('"')
        if wanted not in ("*", etag.strip('"')) and do != "ignore_if_match":
            raise S3Error(412, "PreconditionFailed", "A pre-condition you specified did not hold")
        headers = {
            "ETag": '"0123456789abcdef0123456789abcdef"' if do == "other_etag" else etag,
            "Last-Modified": formatdate(obj.mtime, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
        }
        if do == "no_etag":
            del headers["ETag"]
        if server.settings["sse"]:
            headers["x-amz-server-side-encryption"] = server.settings["sse"]
        span = None
        if number := int(args.get("partNumber", 0)):
            parts = server.parts(obj, server.settings["etag"]) or server.parts(obj, server.settings["checksum"])
            if parts:
                headers["x-amz-mp-parts-count"] = str(len(parts))
            ends = [0, *accumulate(parts or [obj.size])]
            if number >= len(ends):
                raise S3Error(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
            span = ends[number - 1], ends[number]
        elif do != "ignore_range":
            span = range_span(self.headers.get("Range", ""), obj.size)
        start, stop = span or (0, obj.size)
        status = 200
        if span and start < stop:  # not so for the part of an empty object
            status = 200 if do == "status200_with_content_range" else 206
            shift = do == "wrong_content_range"
            headers["Content-Range"] = f"bytes {start + shift}-{stop - 1 + shift}/{obj.size}"
        elif "ENABLED" in (args.get(CHECKSUM_MODE), self.headers.get(CHECKSUM_MODE)):
            headers |= server.checksum(obj)
        return Reply(status, headers, [(obj.source, start, stop - start)], start)

    def send(self, reply: Reply, fault: dict[str, Any], span: list[int]) -> None:
        """Answers, with what the fault does to the body, and counts what it sends in `span`."""
        do, arg, body = fault.get("do"), fault.get("arg"), reply.body
        length = sum(count for *_, count in body)
        at = int(arg or 0)
        if do in ("short", "short_chunkless", "short_length"):
            body = cut(body, 0, at)
        elif do == "truncate_xml":
            body = cut(body, 0, length // 2)
        elif do == "flip":
            flipped = bytes(255 - byte for piece in cut(body, at, at + 1) for byte in read(*piece))
            body = [*cut(body, 0, at), (flipped, 0, len(flipped)), *cut(body, at + 1, length)]
        elif do == "dup":
            end = at + min(1 << 16, (length - at) // 2)
            body = cut(body, 0, end) + cut(body, at, end) + cut(body, 2 * end - at, length)
        if do in ("short_chunkless", "truncate_xml"):
            reply.headers["Connection"] = "close"
        else:
            reply.headers["Content-Length"] = str(min(at, length) if do == "short_length" else length)
        self.send_response(reply.status)
        for name, text in reply.headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.close_connection |= do == "short"
        if self.command == "HEAD":
            body = []
        rate = arg if do == "trickle" else self.server.settings["bytes_per_second"]
        self.send_body(cut(body, 0, length // 2), rate, span)
        if do == "stall":
            time.sleep(fault["arg"])
        if do == "reset":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())  # at once: a shutdown would send a FIN first
            self.close_connection = True
            return
        self.send_body(cut(body, length // 2, length), rate, span)

    def send_body(self, body: Body, rate: float | None, span: list[int]) -> None:
        block = max(1, min(BLOCK, int(rate / 20))) if rate else BLOCK
        began, sent = time.monotonic(), 0
        for source, first, count in body:
            for at in range(first, first + count, block):
                size = min(block, first + count - at)
                # Counted first: a client that has all of a body then finds all of it in the stats.
                span[1] += size
                if isinstance(source, bytes) or isinstance(self.connection, ssl.SSLSocket):
                    self.connection.sendall(read(source, at, size))
                else:
                    self.send_file(source, at, size)
                sent += size
                if rate:
                    time.sleep(max(0, began + sent / rate - time.monotonic()))

    def send_file(self, file: FileIO, at: int, size: int) -> None:
        while size:
            sent = os.sendfile(self.connection.fileno(), file.fileno(), at, size)
            if not sent:
                raise ConnectionAbortedError("the file has shrunk")
            at, size = at + sent, size - sent


class S3Server:
    """A server in a subprocess, which ends with the context, or with this process."""

    def __init__(self, root: str | os.PathLike[str], tls: tuple[str, str] | None = None, **settings: Any) -> None:
        self.root, self.tls, self.settings = root, tls, settings

    def __enter__(self) -> S3Server:
        command = [sys.executable, "-P", __file__, "--root", os.fspath(self.root)]
        if self.tls:
            command += ["--tls", *map(os.fspath, self.tls)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline() or 0)
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        try:
            self.configure(**self.settings)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def configure(self, **settings: Any) -> None:
        self.request("PUT", "/_settings", json.dumps(settings))

    def stats(self) -> dict[str, Any]:
        return self.request("GET", "/_stats")

    def reset(self) -> None:
        self.request("POST", "/_reset")

    def request(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        with closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode()
        if response.status != 200:
            raise ValueError(text)
        stats: dict[str, Any] = json.loads(text)
        return stats


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints its port; serves until EOF on stdin.")
    parser.add_argument("--root", required=True)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--tls", nargs=2, metavar=("CERTFILE", "KEYFILE"))
    options = parser.parse_args()
    server = Server(options.root)
    server.configure(options.settings)
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.tls)
        # Handshakes are left to the first read, thus to the threads of the connections.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
