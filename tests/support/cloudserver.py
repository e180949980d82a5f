"""Small servers on loopback that speak as much of Google's, Azure's and the Hub's protocols as reading needs.

Objects lie in memory and have versions. What goes wrong is set from outside: see `CloudServer`.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from awscrt import checksums as crt

PAGE = 2  # objects in one page of a listing, so that small caches have several


@dataclass(frozen=True)
class Stored:
    """One version of an object."""

    data: bytes
    version: int

    @property
    def md5(self) -> bytes:
        return hashlib.md5(self.data).digest()


@dataclass
class Reply:
    """What to answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: object, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients go away."""


class CloudServer:
    """A store with one container "lab". Subclasses know a protocol."""

    scheme: ClassVar[str]
    root: ClassVar[str]  # of the objects, as a URL

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.versions = 0
        self.denied = False  # every request is refused, as with wrong credentials
        self.hidden: set[str] = set()  # keys whose bytes are refused
        self.status: list[int] = []  # what the next requests for bytes are answered with
        self.flips = 0  # answers in which a byte is wrong on the way; -1: all
        self.hang = threading.Event()  # while set, requests for bytes are not answered
        self.delay = 0.0  # seconds before bytes are sent
        self.act: Callable[[], object] | None = None  # called once, before bytes are sent
        self.sent = 0  # bytes
        self.asked = 0  # requests of other kinds
        self._over = threading.Event()

    # what tests call

    def put(self, key: str, data: bytes) -> None:
        self.versions += 1
        self.objects = {**self.objects, key: Stored(data, self.versions)}

    def drop(self, key: str) -> None:
        self.objects = {name: stored for name, stored in self.objects.items() if name != key}

    def contents(self) -> dict[str, bytes]:
        return {key: stored.data for key, stored in sorted(self.objects.items())}

    def options(self) -> dict[str, Any]:
        """Return the storage options that lead here."""
        raise NotImplementedError

    def __enter__(self) -> "CloudServer":
        self._server = _Listener(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()

    def vanish(self) -> None:
        """Be gone, as a machine that is switched off."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    # what protocols call

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Reply:
        raise NotImplementedError

    def error(self, status: int) -> Reply:
        """Return an error in the protocol's form."""
        raise NotImplementedError

    def page(self, prefix: str, after: str, size: int = PAGE) -> tuple[list[tuple[str, Stored]], str]:
        """Return objects of one page, and the key to go on after ("": that was all)."""
        rows = [(key, stored) for key, stored in sorted(self.objects.items()) if key.startswith(prefix) and key > after]
        return rows[:size], rows[size - 1][0] if len(rows) > size else ""

    def bytes_of(self, key: str, stored: Stored, wanted: str, headers: dict[str, str]) -> Reply:
        """Return a range of an object, with whatever is to go wrong."""
        if self.act is not None:
            act, self.act = self.act, None
            act()
        time.sleep(self.delay)
        while self.hang.is_set() and not self._over.wait(0.05):
            pass
        if self.status:
            return self.error(self.status.pop(0))
        if key in self.hidden:
            return self.error(403)
        size = len(stored.data)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, stop = (int(first), min(int(last) + 1, size) if last else size) if wanted else (0, size)
        self.sent += stop - start
        data = bytearray(stored.data[start:stop])
        if self.flips and data:
            self.flips -= self.flips > 0
            data[len(data) // 2] ^= 1
        if wanted:
            headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return Reply(206 if wanted else 200, bytes(data), headers)


def _handler(store: CloudServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            if store.denied:
                reply = store.error(403)
            else:
                reply = store.answer(self.command, url.path, query, self.headers, body)
            self.send_response(reply.status)
            for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class GoogleServer(CloudServer):
    """Google's JSON API: get a bucket, list, get an object, get its bytes of one generation."""

    scheme, root = "gs", "gs://lab/tusz"

    def options(self) -> dict[str, Any]:
        return {"endpoint_url": self.address, "token": "anon"}

    def error(self, status: int) -> Reply:
        return as_json({"error": {"code": status, "message": "As scripted."}}, status)

    def resource(self, key: str, stored: Stored) -> dict[str, str]:
        crc = crt.crc32c(stored.data).to_bytes(4, "big")
        return {
            "kind": "storage#object",
            "name": key,
            "bucket": "lab",
            "generation": str(1700000000000000 + stored.version),
            "size": str(len(stored.data)),
            "updated": "2026-01-01T00:00:00.000Z",
            "md5Hash": base64.b64encode(stored.md5).decode(),
            "crc32c": base64.b64encode(crc).decode(),
        }

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Reply:
        media = path.startswith("/download/")
        place = path.removeprefix("/download").removeprefix("/storage/v1/b/")
        bucket, _, key = place.partition("/o/")
        if bucket.removesuffix("/o") != "lab":
            return self.error(404)
        self.asked += not media
        if place == "lab":
            return as_json({"kind": "storage#bucket", "name": "lab"})
        if not key:
            return self.listing(query.get("prefix", ""), query)
        key = unquote(key)
        stored = self.objects.get(key)
        if stored is None:
            return self.error(404)
        resource = self.resource(key, stored)
        if not media:
            return as_json(resource)
        if query.get("generation") != resource["generation"]:
            return self.error(404)  # nothing is kept of old ones
        return self.bytes_of(key, stored, headers.get("Range", ""), {})

    def listing(self, prefix: str, query: dict[str, str]) -> Reply:
        rows, following = self.page(prefix, query.get("pageToken", ""))
        found: dict[str, Any] = {"kind": "storage#objects", "items": [self.resource(*row) for row in rows]}
        if following:
            found["nextPageToken"] = following
        return as_json(found)


class AzureServer(CloudServer):
    """Azure's Blob REST API: get a container, list, get a blob's properties and bytes. Signatures are not checked."""

    scheme, root = "az", "az://lab/tusz"
    # of the well-known account of all emulators
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def options(self) -> dict[str, Any]:
        account = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={self.KEY}"
        return {"connection_string": f"{account};BlobEndpoint={self.address}/devstoreaccount1;"}

    def error(self, status: int) -> Reply:
        code = {403: "AuthenticationFailed", 404: "BlobNotFound", 503: "ServerBusy"}.get(status, "Scripted")
        body = f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code><Message>.</Message></Error>"
        return Reply(status, body.encode(), {"x-ms-error-code": code, "Content-Type": "application/xml"})

    def headers_of(self, stored: Stored) -> dict[str, str]:
        return {
            "ETag": f'"0x8D{stored.version:013X}"',
            "Last-Modified": formatdate(1767225600, usegmt=True),
            "x-ms-blob-type": "BlockBlob",
            "x-ms-version": "2021-08-06",
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
        }

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Reply:
        _, _, container, *rest = path.split("/", 3)
        key = unquote(rest[0]) if rest else ""
        if container != "lab":
            return self.error(404)
        if query.get("comp") == "list":
            return self.listing(query.get("prefix", ""), query.get("marker", ""))
        if not key:
            return Reply(200, b"", {"ETag": '"0x1"', "Last-Modified": formatdate(1767225600, usegmt=True)})
        stored = self.objects.get(key)
        if stored is None:
            return self.error(404)
        about, md5 = self.headers_of(stored), base64.b64encode(stored.md5).decode()
        if method == "HEAD":
            self.asked += 1
            return Reply(200, b"", about | {"Content-Length": str(len(stored.data)), "Content-MD5": md5})
        wanted = headers.get("x-ms-range") or headers.get("Range", "")
        return self.bytes_of(key, stored, wanted, about | {"x-ms-blob-content-md5": md5})

    def listing(self, prefix: str, marker: str) -> Reply:
        rows, following = self.page(prefix, marker)
        blobs = ""
        for key, stored in rows:
            about = self.headers_of(stored)
            md5 = base64.b64encode(stored.md5).decode()
            facts = (
                f"<Last-Modified>{about['Last-Modified']}</Last-Modified><Etag>{about['ETag'].strip(chr(34))}</Etag>"
            )
            facts += f"<Content-Length>{len(stored.data)}</Content-Length><Content-MD5>{md5}</Content-MD5>"
            facts += "<Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType>"
            blobs += f"<Blob><Name>{escape(key)}</Name><Properties>{facts}</Properties></Blob>"
        text = f"<Prefix>{escape(prefix)}</Prefix><Blobs>{blobs}</Blobs><NextMarker>{escape(following)}</NextMarker>"
        head = '<?xml version="1.0" encoding="utf-8"?>'
        body = f'{head}<EnumerationResults ContainerName="lab">{text}</EnumerationResults>'
        return Reply(200, body.encode(), {"Content-Type": "application/xml"})


class HubServer(CloudServer):
    """The Hub's API: get a repository at a revision, list its tree, tell of paths, get bytes. Every put is a commit."""

    scheme, root = "hf", "hf://datasets/lab/tusz/tusz"

    def __init__(self) -> None:
        super().__init__()
        self.commits: dict[str, dict[str, Stored]] = {}

    def options(self) -> dict[str, Any]:
        return {"endpoint": self.address, "token": "hf_secret"}

    def error(self, status: int, code: str = "Scripted") -> Reply:
        return as_json({"error": "As scripted."}, status, X_Error_Code=code)

    def commit(self) -> str:
        """Return the newest commit."""
        state = str(sorted((key, stored.version) for key, stored in self.objects.items()))
        name = hashlib.sha1(state.encode()).hexdigest()
        self.commits[name] = self.objects
        return name

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Reply:
        newest = self.commit()
        parts = unquote(path).strip("/").split("/")
        if parts[0] != "api":
            return self.resolve(path, newest, headers)
        self.asked += 1
        if parts[1:4] != ["datasets", "lab", "tusz"]:
            return self.error(404, "RepoNotFound")
        what, revision, rest = (parts[4:5] or ["revision"])[0], (parts[5:6] or ["main"])[0], "/".join(parts[6:])
        sha = newest if revision == "main" else revision
        if sha not in self.commits:
            return self.error(404, "RevisionNotFound")
        if what == "revision":
            return as_json({"id": "lab/tusz", "sha": sha, "siblings": [], "private": False, "tags": [], "downloads": 0})
        rows = self.tree(self.commits[sha])
        if what == "paths-info":
            names = dict(parse_qsl(body.decode(), keep_blank_values=True)).get("paths", "")
            return as_json([row for row in rows if row["path"] in names])
        within = [row for row in rows if row["path"].startswith(rest + "/" if rest else "")]
        if rest and not within:
            return self.error(404, "EntryNotFound")
        deep = query.get("recursive", "").lower() == "true"
        depth = rest.count("/") + 1 if rest else 0
        return as_json([row for row in within if deep or row["path"].count("/") == depth])

    @staticmethod
    def tree(objects: dict[str, Stored]) -> list[dict[str, Any]]:
        folders = {key.rsplit("/", up)[0] for key in objects for up in range(1, key.count("/") + 1)}
        rows: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in folders]
        for key, stored in objects.items():
            oid = hashlib.sha1(stored.data).hexdigest()
            row = {"type": "file", "oid": oid, "size": len(stored.data), "path": key}
            if key.endswith(".npz"):
                row["lfs"] = {"oid": hashlib.sha256(stored.data).hexdigest(), "size": row["size"], "pointerSize": 130}
            rows.append(row)
        return sorted(rows, key=lambda row: row["path"])

    def resolve(self, path: str, newest: str, headers: Any) -> Reply:
        *_, revision, key = unquote(path).partition("/resolve/")[2].partition("/")
        revision = unquote(path).partition("/resolve/")[2].partition("/")[0]
        stored = self.commits.get(newest if revision == "main" else revision, {}).get(key)
        if stored is None:
            return self.error(404, "EntryNotFound")
        return self.bytes_of(key, stored, headers.get("Range", ""), {"X-Repo-Commit": revision})
