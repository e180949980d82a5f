"""What each known scheme needs, and what its `info` says of an object: its version, and the best proof of its bytes."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tusz_cache.checksum import NOTHING, Algorithm, Expectation
from tusz_cache.entry import Level

Info = Mapping[str, Any]  # of one object, as fsspec's `info` and `find` return it


@dataclass(frozen=True, slots=True)
class Scheme:
    """What is particular to one kind of store."""

    extra: str  # of this package, that brings what the scheme needs
    filesystem: str  # "module:class" of the fsspec implementation
    identity: str  # what to do if the store wants to know who we are
    marks: tuple[str, ...]  # fields of `info` that change with the content, best first
    expect: Callable[[Info], Expectation] = lambda _: NOTHING
    swallows_options: bool = False  # takes any storage option without a word
    options: Mapping[str, Any] = field(default_factory=dict)  # storage options, unless the user gives others

    def mark(self, info: Info) -> str | None:
        """Return the version mark of an object; None if its store has none."""
        return _first(self.marks, info)


# of stores that nothing is known of: what filesystems call the fields that change with the content
_ANY = (
    *("etag", "ETag", "generation", "md5Hash", "content_md5", "mtime", "modified"),
    *("LastModified", "last_modified", "updated", "created"),
)


def _first(names: tuple[str, ...], info: Info) -> str | None:
    for name in names:
        if (value := info.get(name)) is not None:
            # memory:// gives a time as a number when it lists and as a datetime when it is asked
            return str(value.timestamp() if isinstance(value, datetime) else value).strip('"')
    return None


def _google(info: Info) -> Expectation:
    """CRC32C is there for every object, and combines; MD5 only for objects that were not composed."""
    return (
        _base64(info.get("crc32c"), "source-crc", "crc32c", 4)
        or _base64(info.get("md5Hash"), "etag-md5", "md5", 16)
        or NOTHING
    )


def _base64(text: object, level: Level, algorithm: Algorithm, length: int) -> Expectation | None:
    try:
        digest = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return None  # not a checksum that we know how to read: the next one may be
    return Expectation(level, algorithm, digest) if len(digest) == length else None


def _azure(info: Info) -> Expectation:
    """The service computes an MD5 for blobs put in one request; others carry what the uploader wrote, or nothing."""
    digest = bytes((info.get("content_settings") or {}).get("content_md5") or b"")
    return Expectation("etag-md5", "md5", digest) if len(digest) == 16 else NOTHING


def _hub(info: Info) -> Expectation:
    """Large files carry a SHA-256. The blob id of the others is git's own hash, over more than the bytes."""
    try:
        digest = bytes.fromhex((info.get("lfs") or {}).get("sha256") or "")
    except ValueError:
        return NOTHING
    return Expectation("source-crc", "sha256", digest) if len(digest) == 32 else NOTHING


ANY = Scheme(
    extra="",
    filesystem="",
    identity="check permissions, credentials, and --storage-option against the documentation of its fsspec filesystem",
    marks=_ANY,
)
GOOGLE = Scheme(
    extra="gs",
    # not the one that fsspec finds: it asks for the kind of bucket by gRPC, before each read where that is not allowed
    filesystem="gcsfs.core:GCSFileSystem",
    identity="the identity needs storage.objects.list and storage.objects.get; name it by "
    "GOOGLE_APPLICATION_CREDENTIALS or --storage-option token=KEY.json, or for a public bucket "
    "--storage-option token=anon",
    marks=("generation",),
    expect=_google,
    swallows_options=True,
    options={"use_listings_cache": False},
)
AZURE = Scheme(
    extra="az",
    filesystem="adlfs:AzureBlobFileSystem",
    identity="set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; "
    "for a public container pass --storage-option account_name=NAME and --storage-option anon=true",
    marks=("etag",),
    expect=_azure,
    options={"use_listings_cache": False},
)
SFTP = Scheme(
    extra="sftp",
    filesystem="sshfs:SSHFileSystem",
    identity="check the user (sftp://USER@HOST/PATH), the key (an agent, or --storage-option client_keys=FILE), "
    "and what that user may read there",
    marks=("mtime",),
    # sshfs trusts any server unless told where known ones are written: "()" is ~/.ssh/known_hosts
    options={"known_hosts": (), "timeout": 60},
)
HUB = Scheme(
    extra="hf",
    filesystem="huggingface_hub:HfFileSystem",
    identity="log in with `hf auth login` or set HF_TOKEN, and accept the conditions of the repository if it has any",
    marks=("blob_id",),
    expect=_hub,
    swallows_options=True,
    options={"use_listings_cache": False},
)
KNOWN: Mapping[str, Scheme] = {
    "gs": GOOGLE,
    "gcs": GOOGLE,
    "az": AZURE,
    "abfs": AZURE,
    "abfss": AZURE,
    "sftp": SFTP,
    "ssh": SFTP,
    "hf": HUB,
}
_S3 = "the identity needs s3:ListBucket and s3:GetObject; try --anon for a public bucket, or --profile"


def identity_hint(url: str) -> str:
    """Return what to do if the store behind `url` denies access."""
    scheme = url.partition("://")[0]
    return _S3 if scheme in {"s3", "s3a"} else KNOWN.get(scheme, ANY).identity
