"""What is read of `info`, and what foreign errors become: pure, from dictionaries and errors as packages make them."""

import base64
import datetime
import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import asyncssh
import google.auth.exceptions
import httpx2
import huggingface_hub.errors
import pytest
from awscrt import checksums as crt
from azure.core import exceptions as azure
from azure.storage.blob import ContentSettings
from gcsfs.retry import HttpError
from huggingface_hub.hf_api import BlobLfsInfo

from tusz_cache.checksum import NOTHING, Expectation
from tusz_cache.errors import (
    AccessDenied,
    CacheError,
    NoCredentials,
    NoSuchSource,
    SourceChanged,
    Stalled,
    Throttled,
    TransferError,
    Unreachable,
    UsageError,
)
from tusz_cache.stores.foreign import translated, translated_read
from tusz_cache.stores.schemes import ANY, AZURE, GOOGLE, HUB, KNOWN, SFTP, Scheme, identity_hint

DATA = b"some bytes"
MD5 = hashlib.md5(DATA).digest()
SHA256 = hashlib.sha256(DATA)
CRC32C = crt.crc32c(DATA).to_bytes(4, "big")
WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def base(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


GOOGLE_INFO = {"name": "b/k", "size": 10, "generation": "17", "crc32c": base(CRC32C), "md5Hash": base(MD5)}
AZURE_INFO = {"etag": '"0x8D1"', "content_settings": ContentSettings(content_md5=bytearray(MD5)), "last_modified": WHEN}
HUB_INFO = {"blob_id": "ab12", "lfs": BlobLfsInfo(size=10, sha256=SHA256.hexdigest(), pointer_size=130)}
CRC, BY_MD5 = Expectation("source-crc", "crc32c", CRC32C), Expectation("etag-md5", "md5", MD5)

INFOS: dict[str, tuple[Scheme, dict[str, Any], str | None, Expectation]] = {
    "google": (GOOGLE, GOOGLE_INFO, "17", CRC),
    "google without a CRC": (GOOGLE, GOOGLE_INFO | {"crc32c": None}, "17", BY_MD5),
    "google with an odd CRC": (GOOGLE, GOOGLE_INFO | {"crc32c": "?"}, "17", BY_MD5),
    "google with a short CRC": (GOOGLE, GOOGLE_INFO | {"crc32c": base(b"abc")}, "17", BY_MD5),
    "google with nothing": (GOOGLE, {"generation": "17"}, "17", NOTHING),
    "azure": (AZURE, AZURE_INFO, "0x8D1", BY_MD5),
    "azure without MD5": (AZURE, AZURE_INFO | {"content_settings": ContentSettings()}, "0x8D1", NOTHING),
    "azure without settings": (AZURE, {"etag": '"0x8D1"'}, "0x8D1", NOTHING),
    "sftp": (SFTP, {"mtime": WHEN, "size": 10}, str(WHEN.timestamp()), NOTHING),
    "hub, LFS": (HUB, HUB_INFO, "ab12", Expectation("source-crc", "sha256", SHA256.digest())),
    "hub, not LFS": (HUB, {"blob_id": "ab12", "lfs": None}, "ab12", NOTHING),
    "hub with an odd hash": (HUB, {"blob_id": "ab12", "lfs": {"sha256": "x"}}, "ab12", NOTHING),
    "any, an ETag": (ANY, {"ETag": '"x"', "mtime": 1.0}, "x", NOTHING),
    "any, a time": (ANY, {"created": WHEN}, str(WHEN.timestamp()), NOTHING),
    "any, nothing": (ANY, {"size": 10}, None, NOTHING),
}


@pytest.mark.parametrize("case", INFOS)
def test_what_info_says(case: str) -> None:
    """Each scheme's version mark is the field that changes with the content; the proof is the best that is there."""
    scheme, info, mark, expected = INFOS[case]
    assert (mark, expected) == (scheme.mark(info), scheme.expect(info))


def test_every_scheme_says_how_to_identify() -> None:
    """A denied access is told with a hint that is of the scheme, and S3's of no other."""
    hints = [identity_hint(f"{name}://x") for name in KNOWN]
    assert [] == [hint for hint in hints if "s3:" in hint or not hint]
    assert "s3:GetObject" in identity_hint("s3://x")
    assert ANY.identity == identity_hint("other://x")


def cause(error: BaseException, by: BaseException) -> BaseException:
    error.__cause__ = by
    return error


def hub_error(kind: type[Exception], status: int) -> Exception:
    return kind("no", response=httpx2.Response(status, request=httpx2.Request("GET", "http://x")))


def azure_error(status: int) -> Exception:
    return azure.HttpResponseError("no", response=SimpleNamespace(status_code=status, reason="no", headers={}))


hub = huggingface_hub.errors
# what is raised -> what it is when a source is opened or listed, and when bytes are read
ERRORS: dict[str, tuple[Callable[[], BaseException], type[CacheError], type[CacheError]]] = {
    "gcsfs 401": (lambda: HttpError({"code": 401, "message": "Invalid Credentials"}), AccessDenied, AccessDenied),
    "gcsfs 403": (lambda: OSError("Forbidden: http://x\nno"), AccessDenied, AccessDenied),
    "gcsfs 404": (lambda: FileNotFoundError("b/k"), NoSuchSource, NoSuchSource),
    "gcsfs 429": (lambda: HttpError({"code": 429, "message": "slow"}), Unreachable, Throttled),
    "gcsfs 503": (lambda: HttpError({"code": 503, "message": "no"}), Unreachable, Throttled),
    "google, nobody": (lambda: google.auth.exceptions.DefaultCredentialsError("no"), NoCredentials, TransferError),
    "google, stale": (lambda: google.auth.exceptions.RefreshError("no"), AccessDenied, AccessDenied),
    "aiohttp": (aiohttp.ServerDisconnectedError, Unreachable, TransferError),
    "azure 403": (lambda: azure_error(403), AccessDenied, AccessDenied),
    "azure 412": (lambda: azure_error(412), SourceChanged, SourceChanged),
    "azure 503": (lambda: azure_error(503), Unreachable, Throttled),
    "azure, nobody": (lambda: azure.ClientAuthenticationError("no"), AccessDenied, AccessDenied),
    "azure, gone": (lambda: azure.ServiceRequestError("no"), Unreachable, TransferError),
    "hub 401": (lambda: hub_error(hub.HfHubHTTPError, 401), AccessDenied, AccessDenied),
    "hub, gated": (lambda: hub_error(hub.GatedRepoError, 403), AccessDenied, AccessDenied),
    "hub, no repository": (lambda: hub_error(hub.RepositoryNotFoundError, 401), NoSuchSource, NoSuchSource),
    "hub, wrapped": (
        lambda: cause(FileNotFoundError("x"), hub_error(hub.RevisionNotFoundError, 404)),
        NoSuchSource,
        NoSuchSource,
    ),
    "hub 429": (lambda: hub_error(hub.HfHubHTTPError, 429), Unreachable, Throttled),
    "hub, gone": (lambda: httpx2.ConnectError("no"), Unreachable, TransferError),
    "hub, name": (lambda: hub.HFValidationError("no"), UsageError, TransferError),
    "ssh, key": (lambda: cause(PermissionError("no"), asyncssh.PermissionDenied("no")), AccessDenied, AccessDenied),
    "ssh, host": (lambda: asyncssh.HostKeyNotVerifiable("no"), AccessDenied, AccessDenied),
    "ssh, lost": (lambda: asyncssh.ConnectionLost("no"), Unreachable, TransferError),
    "sftp, denied": (lambda: asyncssh.SFTPPermissionDenied("no"), AccessDenied, AccessDenied),
    "sftp, gone": (lambda: asyncssh.SFTPNoSuchFile("no"), NoSuchSource, NoSuchSource),
    "no answer": (lambda: TimeoutError("no answer in 30 s"), Unreachable, Stalled),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_foreign_errors_become(case: str) -> None:
    """Each package's own errors become ours, with a hint; while reading, those that may pass are tried again."""
    make, opening, reading = ERRORS[case]
    with pytest.raises(CacheError) as opened, translated("gs://b"):
        raise make()
    with pytest.raises(CacheError) as read, translated_read("gs://b/k"):
        raise make()
    assert (opening, reading) == (opened.type, read.type)
    assert opened.value.hint
    assert read.value.hint
