"""A server that lists one bucket of synthetic keys, and does nothing else: `python -m bench.lister --keys 100000`.

It prints its port and serves ListObjectsV2 (prefix, delimiter, max-keys, start-after, continuation-token) until its
standard input ends. Rows are rendered before the first request, so that clients are measured and not the server.
"""

import argparse
import bisect
import os
import sys
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from bench.keys import entries
from tusz_cache.entry import Entry

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
_ROW = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag>"
    "<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


class Server(ThreadingHTTPServer):
    """The bucket."""

    request_queue_size = 128

    def __init__(self, objects: Iterable[Entry], latency: float = 0.0) -> None:
        """objects: in the order of their keys, which need no quoting."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.latency = latency  # seconds before each answer
        self.keys: list[str] = []
        self.rows: list[str] = []
        for entry in objects:
            self.keys.append(entry.key)
            self.rows.append(_ROW.format(key=entry.key, etag=entry.etag, size=entry.size))

    def page(self, asked: dict[str, str]) -> bytes:
        """Return the answer to ListObjectsV2."""
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        most = min(int(asked.get("max-keys", 1000)), 1000)
        after = asked.get("continuation-token") or asked.get("start-after", "")
        at = max(bisect.bisect_right(self.keys, after), bisect.bisect_left(self.keys, prefix))
        if delimiter and after.endswith(delimiter):
            at = bisect.bisect_left(self.keys, after + "\U0010ffff")  # behind that folder
        end = bisect.bisect_left(self.keys, prefix + "\U0010ffff")
        shown, last = [], ""
        while at < end and len(shown) < most:
            if not delimiter:
                stop = min(end, at + most)
                shown, last, at = self.rows[at:stop], self.keys[stop - 1], stop
                continue
            head, mark, _ = self.keys[at][len(prefix) :].partition(delimiter)
            last = prefix + head + mark
            shown.append(f"<CommonPrefixes><Prefix>{last}</Prefix></CommonPrefixes>" if mark else self.rows[at])
            at = bisect.bisect_left(self.keys, last + "\U0010ffff") if mark else at + 1
        more = f"<NextContinuationToken>{last}</NextContinuationToken>" if at < end else ""
        about = f"<Name>b</Name><Prefix>{prefix}</Prefix><MaxKeys>{most}</MaxKeys><KeyCount>{len(shown)}</KeyCount>"
        about += f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        return f"{_HEAD}{about}{''.join(shown)}</ListBucketResult>".encode()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        """Answer a listing."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        time.sleep(self.server.latency)
        known = asked.get("list-type") == "2"  # version 1 has other tokens: a client would ask without end
        body = self.server.page(asked) if known else b""
        self.send_response(200 if known else 501)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    options = parser.parse_args()
    server = Server(entries(options.keys), options.latency)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    os._exit(0)  # connections that clients keep open do not keep it alive


if __name__ == "__main__":
    main()
