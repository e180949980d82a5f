"""The objects under a root, with their ETags and checksums."""

from __future__ import annotations

import base64
import bisect
import hashlib
import os
import threading
import time
from contextlib import suppress
from io import FileIO
from itertools import accumulate
from typing import Any

from tests.support.s3.values import BLOCK, DEFAULTS, Object, S3Error, digest

SUCCESSOR = bytes((byte + 1) % 256 for byte in range(256))


class Objects:
    """What the settings make of the files under `root`."""

    def __init__(self, root: str) -> None:
        self.root, self.started = os.path.abspath(root), time.time()
        self.settings = dict(DEFAULTS)
        self.digest_lock = threading.Lock()
        self.digests: dict[tuple[Any, ...], bytes] = {}
        self.listings: dict[tuple[str, ...], list[str]] = {}

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
