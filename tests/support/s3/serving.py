"""The server, a process of its own: it prints its port, and serves until EOF on stdin."""

from __future__ import annotations

import argparse
import json
import os
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import FileIO
from socket import SO_LINGER, SOL_SOCKET
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from tests.support.s3.access import authorize
from tests.support.s3.faults import FAULTS, cut, spoil, take
from tests.support.s3.getting import get_object
from tests.support.s3.listing import list_folder
from tests.support.s3.objects import Objects
from tests.support.s3.values import BLOCK, DEFAULTS, Body, Reply, Request, S3Error, read

CODES = {400: "InvalidRequest", 403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}


class Server(ThreadingHTTPServer, Objects):
    """The settings, the counts, and the objects under a root."""

    request_queue_size = 1024

    def __init__(self, root: str) -> None:
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), Handler)
        Objects.__init__(self, root)
        self.lock = threading.Lock()  # of the settings and the counts
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
            return take(self.settings["faults"], method, bucket, key)


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
        args = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
        name = unquote_to_bytes(path[1:].encode("latin-1")).decode("utf-8", "surrogateescape")
        index = name.startswith("_index/")
        bucket, _, key = name.removeprefix("_index/").partition("/")
        if index and os.path.isdir(self.server.path(bucket, key)):
            key += "/"  # fsspec leaves it out
        folder = not key or (index and key.endswith("/"))
        method = "LIST" if folder and self.command == "GET" else self.command
        fault = self.server.take_fault(method, bucket, key or args.get("prefix", ""))
        slow = fault["arg"] if fault.get("do") == "slow" else 0
        time.sleep(self.server.settings["latency"] + slow)
        try:
            if fault.get("do") == "status":
                code = fault.get("code") or CODES.get(fault["arg"], "InternalError")
                raise S3Error(fault["arg"], code, "As scripted.")
            request = Request(self.command, args, self.headers, index)
            authorize(self.server, request, bucket, key, folder)
            reply = (list_folder if folder else get_object)(self.server, request, bucket, key, fault.get("do"))
        except S3Error as error:
            reply, fault = error.reply, {}
        span = [reply.start, 0]
        with self.server.lock:
            self.server.statuses[reply.status] += 1
            if method == "GET" and reply.status < 300:
                self.server.ranges.setdefault(f"{bucket}/{key}", []).append(span)
        self.send(reply, fault, span)

    do_HEAD = do_GET

    def send(self, reply: Reply, fault: dict[str, Any], span: list[int]) -> None:
        """Answers, with what the fault does to the body, and counts what it sends in `span`."""
        do, arg, body = fault.get("do"), fault.get("arg"), spoil(reply.body, fault)
        length = sum(count for *_, count in reply.body)
        if do in ("short_chunkless", "truncate_xml"):
            reply.headers["Connection"] = "close"
        else:
            reply.headers["Content-Length"] = str(min(int(arg or 0), length) if do == "short_length" else length)
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
