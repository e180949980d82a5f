"""S3 and its kin through s3fs: listing, HEAD with checksums, signing. Bytes travel by signed URL."""

import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tusz_cache.checksum import expectation, uniform_parts
from tusz_cache.entry import Entry
from tusz_cache.errors import NoSuchSource, SourceChanged
from tusz_cache.stores.base import Access, Facts, HttpFetch
from tusz_cache.stores.connection import request
from tusz_cache.stores.foreign import translated
from tusz_cache.stores.listing import listed, take_rows
from tusz_cache.stores.signing import PROBES, Ask, Presigner, presigner

REFRESH_EVERY = 2.0  # seconds
SIGNED_FOR = 3600  # seconds; fsspec's default of 100 is shorter than one slow part
PRESIGN_FOR = 300.0  # seconds; credentials that renew themselves are seen this soon
# S3 answers a GET with checksums only when asked; the header is part of the signature, so it must be sent as well
_CHECKSUMS = (("x-amz-checksum-mode", "ENABLED"),)
_OPERATIONS = {"GET": "get_object", "HEAD": "head_object"}
_PATIENCE = 10.0  # seconds until a HEAD of ours counts as lost


def s3_options(access: Access) -> dict[str, Any]:
    """Return s3fs's options for `access`. Signature version 4, since sign() makes version 2 URLs by default."""
    options = dict(access.storage_options)
    config = {"signature_version": "s3v4", "max_pool_connections": 32} | dict(options.get("config_kwargs") or {})
    options["config_kwargs"] = config
    named = {"endpoint_url": access.endpoint_url, "anon": access.anon, "profile": access.profile}
    return options | {name: value for name, value in named.items() if value}


Call = Callable[..., Any]  # (coroutine function, filesystem, ...) -> what it returns, run on the filesystem's loop


async def presign(filesystem: Any, bucket: str, asks: Sequence[Ask]) -> tuple[tuple[str, ...], str]:
    """Sign requests that ask for checksums. Returns the URLs, and the secret key they are signed with ("": none).

    Not s3fs's own `sign`, which takes "?versionId=" in a key for a version.
    """
    await filesystem.set_session()
    client = await filesystem.get_s3(bucket)
    urls = []
    for method, key, part in asks:
        parameters = {"Bucket": bucket, "Key": key, "ChecksumMode": "ENABLED"} | _part_number(part)
        urls.append(await client.generate_presigned_url(_OPERATIONS[method], Params=parameters, ExpiresIn=SIGNED_FOR))
    credentials = client._request_signer._credentials  # noqa: SLF001 - there is no other way to the client's own
    secret = "" if credentials is None else (await credentials.get_frozen_credentials()).secret_key
    return tuple(urls), secret


def _part_number(part: int | None) -> dict[str, int]:
    return {} if part is None else {"PartNumber": part}


async def read_rows_ourselves(filesystem: Any, bucket: str) -> None:
    """Have the filesystem's client leave the rows of listings to `take_rows`."""
    await filesystem.set_session()
    client = await filesystem.get_s3(bucket)
    client.meta.events.register("before-parse.s3.ListObjectsV2", take_rows, unique_id="tusz_cache")


class S3Source:
    """Objects below s3://bucket/prefix, or the one object of that name."""

    def __init__(self, url: str, filesystem: Any, path: str, reopen: Callable[[], Any], call: Call) -> None:
        self.url = url
        self._fs = filesystem
        self._reopen, self._call = reopen, call
        self._bucket, _, prefix = path.partition("/")
        self._prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        self._single: str | None = None  # the key, if the source turned out to be one object
        self._lock = threading.Lock()
        self._presigner: Presigner | None = None
        self._presigner_ends = float("-inf")
        self._heads_resume = float("-inf")
        self._refreshed = float("-inf")
        self._cafile, self._verify = _certificates(filesystem)

    def entries(self) -> Iterator[Entry]:
        """See Source. Pages of 1000, several folders at once, never cached."""
        with translated(self.url):
            self._call(read_rows_ourselves, self._fs, self._bucket)
        empty = True
        for row in listed(self._page, self._prefix):
            empty = False
            etag = row.get("ETag")
            yield Entry(row["Key"].removeprefix(self._prefix), int(row["Size"]), etag.strip('"') if etag else None)
        if empty and self._prefix:
            yield from self._as_single()

    def _page(self, **parameters: str | int) -> dict[str, Any]:
        with translated(self.url):
            answer: dict[str, Any] = self._fs.call_s3("list_objects_v2", Bucket=self._bucket, **parameters)
        return answer

    def _as_single(self) -> Iterator[Entry]:
        key = self._prefix.rstrip("/")
        try:
            with translated(self.url):
                head = self._fs.call_s3("head_object", Bucket=self._bucket, Key=key)
        except NoSuchSource:
            return
        self._single = key
        yield Entry(key.rpartition("/")[2], int(head["ContentLength"]), head["ETag"].strip('"'))

    def _key(self, entry: Entry) -> str:
        return self._single or self._prefix + entry.key

    def facts(self, entry: Entry) -> Facts:
        """See Source. One HEAD, and a second one for an object uploaded in parts whose checksum is composite."""
        head = self._head(entry)
        etag, size = head["etag"].strip('"'), int(head["content-length"])
        expected = expectation(etag, head)
        parts: tuple[int, ...] = ()
        if expected.parts:
            parts = uniform_parts(size, int(self._head(entry, 1)["content-length"]) or 1)
            if len(parts) != expected.parts:
                parts = self.part_sizes(entry, expected.parts)
        return Facts(size, etag, expected, parts)

    def part_sizes(self, entry: Entry, count: int) -> tuple[int, ...]:
        """See Source. One HEAD for each part."""
        return tuple(int(self._head(entry, number)["content-length"]) for number in range(1, count + 1))

    def _head(self, entry: Entry, part: int | None = None) -> Mapping[str, str]:
        """Return what the headers of a HEAD say, names in lower case."""
        key = self._key(entry)
        try:
            with translated(f"s3://{self._bucket}/{key}"):
                return self._head_ourselves(key, part) or self._head_by_s3fs(key, part)
        except NoSuchSource as error:
            raise SourceChanged(
                f"{entry.key!r} is gone from the source", hint="run again: the plan is made anew"
            ) from error

    def _head_ourselves(self, key: str, part: int | None) -> Mapping[str, str] | None:
        """Ask in a fraction of the CPU time that s3fs takes; None for all but a plain success: it knows errors best."""
        made = self._current_presigner()
        if made is None or time.monotonic() < self._heads_resume:
            return None
        try:
            answer, _ = request("HEAD", self._by_http(made.url("HEAD", key, part)), dict(_CHECKSUMS), _PATIENCE)
            answer.read()
        except (OSError, http.client.HTTPException):
            self._heads_resume = time.monotonic() + PRESIGN_FOR  # s3fs may know a way there that we do not
            return None
        headers = {name.lower(): value for name, value in answer.getheaders()}
        is_good = answer.status in {200, 206} and "etag" in headers
        return headers if is_good and headers.get("content-length", "").isdecimal() else None

    def _head_by_s3fs(self, key: str, part: int | None) -> Mapping[str, str]:
        options = _part_number(part)
        head = self._fs.call_s3("head_object", Bucket=self._bucket, Key=key, ChecksumMode="ENABLED", **options)
        headers: Mapping[str, str] = head["ResponseMetadata"]["HTTPHeaders"]
        return headers

    def fetch(self, entry: Entry) -> HttpFetch:
        """See Source. A URL signed for an hour."""
        ask = ("GET", self._key(entry), None)
        with translated(self.url):
            made = self._current_presigner()
            url = made.url(*ask) if made else self._call(presign, self._fs, self._bucket, [ask])[0][0]
        return self._by_http(url)

    def _by_http(self, url: str) -> HttpFetch:
        return HttpFetch(url, _CHECKSUMS, is_s3=True, cafile=self._cafile, verify=self._verify)

    def _current_presigner(self) -> Presigner | None:
        """Return a presigner made lately, or None where only botocore knows how to sign."""
        with self._lock:
            if time.monotonic() > self._presigner_ends:
                for _ in range(
                    2
                ):  # the probes may have been signed in two seconds, which looks like another way to sign
                    signed, secret = self._call(presign, self._fs, self._bucket, PROBES)
                    if (made := presigner(signed, secret)) is not None:
                        break
                self._presigner = made
                self._presigner_ends = time.monotonic() + PRESIGN_FOR
            return self._presigner

    def crosses_processes(self) -> bool:
        """See Source."""
        return True

    def uses_tls(self) -> bool:
        """See Source. Signing is local and tells the endpoint that profile, region and options amount to."""
        return self.fetch(Entry("-", 0, None)).url.startswith("https://")

    def refresh(self) -> None:
        """See Source. Builds the filesystem anew, which reads environment, files and metadata services again."""
        with self._lock:
            if time.monotonic() - self._refreshed > REFRESH_EVERY:  # many requests are refused at once
                self._fs = self._reopen()
                self._presigner_ends = float("-inf")
                self._refreshed = time.monotonic()


def _certificates(filesystem: Any) -> tuple[str | None, bool]:
    """Return (certificates to trust, whether to check at all), as botocore would decide for the control plane."""
    verify = getattr(filesystem, "client_kwargs", {}).get("verify")
    if isinstance(verify, str):
        return verify, True
    return os.environ.get("AWS_CA_BUNDLE"), verify is not False
