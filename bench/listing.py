"""A small ListObjectsV2: answers for keys that it is given, on loopback. The tests' server is the one with faults."""

import bisect
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, quote, urlsplit

PAGE = 1000  # keys, as S3 has it
_DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Row:
    """One object as a listing shows it."""

    key: str
    size: int
    etag: str


@dataclass
class Bucket:
    """The rows of one bucket in the order of their keys, and the XML of each, made once."""

    name: str
    rows: list[Row]
    keys: list[str] = field(init=False)
    xml: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = sorted(self.rows, key=lambda row: row.key.encode())
        self.keys = [row.key for row in self.rows]
        self.xml = [
            f"<Contents><Key>{escape(quote(row.key))}</Key><LastModified>{_DATE}</LastModified>"
            f"<ETag>&quot;{row.etag}&quot;</ETag><Size>{row.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for row in self.rows
        ]

    def page(self, query: dict[str, str]) -> str:
        """Return the answer to one ListObjectsV2 request."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token", query.get("start-after", ""))
        limit = min(PAGE, int(query.get("max-keys", PAGE)))
        parts: list[str] = []
        last = ""
        at = bisect.bisect_right(self.keys, after) if after >= prefix else bisect.bisect_left(self.keys, prefix)
        if after and delimiter and after.endswith(delimiter):
            at = bisect.bisect_left(self.keys, after + chr(0x10FFFF))  # the folder was the last of its page
        for last, index, xml in _entries(self, prefix, delimiter, at):
            if len(parts) == limit:
                break
            parts.append(xml)
            token, at = last, index
        truncated = bool(last) and len(parts) == limit and at < len(self.keys) and self.keys[at].startswith(prefix)
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if truncated else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{self.name}</Name><Prefix>{escape(quote(prefix))}</Prefix><KeyCount>{len(parts)}</KeyCount>"
            f"<MaxKeys>{limit}</MaxKeys><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{more}{''.join(parts)}</ListBucketResult>"
        )


def _entries(bucket: Bucket, prefix: str, delimiter: str, at: int) -> Iterator[tuple[str, int, str]]:
    """Yield (name, index after it, XML) of keys and folders from row `at` on."""
    while at < len(bucket.keys) and (key := bucket.keys[at]).startswith(prefix):
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            at += 1
            yield key, at, bucket.xml[at - 1]
        else:
            folder = key[: cut + len(delimiter)]
            at = bisect.bisect_left(bucket.keys, folder + chr(0x10FFFF))
            yield folder, at, f"<CommonPrefixes><Prefix>{escape(quote(folder))}</Prefix></CommonPrefixes>"


class ListingServer:
    """Serves the listing of one bucket on 127.0.0.1. A context manager."""

    def __init__(self, bucket: str, rows: Iterable[Row]) -> None:
        self._bucket = Bucket(bucket, list(rows))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._bucket))
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            known = query.get("list-type") == "2"  # version 1 has other tokens: a client would ask without end
            body = bucket.page(query).encode() if known else b""
            self.send_response(200 if known else 501)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
