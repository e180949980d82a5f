"""What the Modal app is told by the environment, and what follows from it. Values only: the SDK is not needed."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tusz_cache import ssd
from tusz_cache.durability import Durability
from tusz_cache.errors import UsageError
from tusz_cache.guarding.values import DeclaredMount
from tusz_cache.stores.base import Access

PREFIX = "TUSZ_"
TRAVELS = ("BGB_LIMIT_FILES",)  # what reaches the containers besides the settings
WRITERS = {1: 5, 2: 100}  # containers that may write at once, by version of the volume: modal.com/docs/guide/volumes
DAY = 24 * 3600  # seconds; no attempt of a function lasts longer: modal.com/docs/guide/timeouts
TO_STOP = 15 * 60  # seconds for the last step, its checkpoint and the container's end
MOUNTED_AT = "/s3_cache"  # the bucket, where populate reads it through a mount
AWS_REGION = r"[a-z]{2}(-[a-z]+)+-\d"
IDENTITY_TOKEN = "MODAL_IDENTITY_TOKEN"  # noqa: S105 - the name of the variable that holds it


class Variable(NamedTuple):
    """A name in the environment."""

    field: str
    read: Callable[[str], Any]  # raises UsageError
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalSettings:
    """Whose bucket, volume and secrets; how many containers. Raises UsageError for what contradicts itself."""

    bucket: str = ""
    prefix: str = ""
    region: str = ""
    endpoint_url: str = ""
    volume: str = "tusz"
    volume_version: int = 1
    aws_secret: str = ""
    oidc_role_arn: str = ""
    wandb_secret: str = ""
    raw_bucket: str = ""
    populate_containers: int = 4
    populate_from: str = "s3"
    train_seconds: int = DAY - TO_STOP
    expect: Mapping[str, int] = field(default_factory=lambda: {"train": 4667, "dev": 1832})

    def __post_init__(self) -> None:
        most = WRITERS[self.volume_version]
        if not 1 <= self.populate_containers <= most:
            raise UsageError(
                f"TUSZ_POPULATE_CONTAINERS={self.populate_containers} is not from 1 to {most}",
                hint=f"a volume of version {self.volume_version} takes {most} writers at once"
                + ("; TUSZ_VOLUME_VERSION=2 takes more" if self.volume_version == 1 else ""),
            )
        if self.region and not self.endpoint_url and not re.fullmatch(AWS_REGION, self.region):
            raise UsageError(
                f"TUSZ_REGION={self.region!r} is no region of AWS",
                hint="e.g. us-east-1; for a store beside S3 set TUSZ_ENDPOINT_URL, too",
            )
        if self.aws_secret and self.oidc_role_arn:
            raise UsageError(
                "TUSZ_AWS_SECRET and TUSZ_OIDC_ROLE_ARN are two ways to be known to the bucket",
                hint="set the secret, or the role, which needs no stored keys",
            )

    @property
    def source(self) -> str:
        """URL of the cache in the bucket. Raises UsageError if there is none."""
        if not self.bucket:
            raise UsageError("TUSZ_BUCKET is not set", hint="export TUSZ_BUCKET=NAME, and TUSZ_PREFIX=PATH/TO/CACHE")
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def access(self) -> Access:
        """How the bucket is reached: without secret and role it must be a public one."""
        region = {"client_kwargs": {"region_name": self.region}} if self.region else {}
        return Access(self.endpoint_url or None, not (self.aws_secret or self.oidc_role_arn), None, region)

    @property
    def mounted_bucket(self) -> str:
        """Bucket that populate reads through a mount; empty where it reads the bucket itself."""
        return self.bucket if self.populate_from == "mount" else ""

    @property
    def origin(self) -> tuple[str, Access]:
        """What populate copies, and how it is reached. Raises UsageError."""
        return (MOUNTED_AT, Access()) if self.mounted_bucket else (self.source, self.access)


def _text(pattern: str, example: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise UsageError(f"{text!r} is none", hint=f"e.g. {example}")
        return text

    return read


def _path(text: str) -> str:
    path = text.strip("/")
    if path and not {"", ".", ".."}.isdisjoint(path.split("/")):  # "s3://bucket" has an empty one
        raise UsageError(f"{text!r} is no path in a bucket", hint="e.g. cache/tusz (no s3://, no bucket)")
    return path


def _number(first: int, last: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and first <= int(text) <= last):
            raise UsageError(f"{text!r} is no number from {first} to {last}", hint=f"e.g. {last}")
        return int(text)

    return read


def _counts(text: str) -> dict[str, int]:
    pairs = re.findall(r"(\w+)=(\d+)(?:,|$)", text)
    if ",".join(f"{split}={count}" for split, count in pairs) != text:
        raise UsageError(f"{text!r} names no numbers of files", hint="e.g. train=4667,dev=1832")
    return {split: int(count) for split, count in pairs}


_NAME = _text(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "tusz")
_BUCKET = _text(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "my-bucket (no s3://, no path)")

VARIABLES: dict[str, Variable] = {
    "TUSZ_BUCKET": Variable("bucket", _BUCKET, "bucket that holds the cache"),
    "TUSZ_PREFIX": Variable("prefix", _path, "path of the cache in it, e.g. `cache/tusz`"),
    "TUSZ_REGION": Variable("region", _text(r"[a-z0-9]+(-[a-z0-9]+)*", "us-east-1"), "region of the bucket"),
    "TUSZ_ENDPOINT_URL": Variable(
        "endpoint_url", _text(r"https?://[^\s/]+(/\S*)?", "https://ID.r2.cloudflarestorage.com"), "of a store beside S3"
    ),
    "TUSZ_VOLUME": Variable("volume", _NAME, "volume for cache and outputs; made if it does not exist"),
    "TUSZ_VOLUME_VERSION": Variable("volume_version", _number(1, 2), "1, or 2 (beta), which takes more writers"),
    "TUSZ_AWS_SECRET": Variable(
        "aws_secret", _NAME, "Modal secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`"
    ),
    "TUSZ_OIDC_ROLE_ARN": Variable(
        "oidc_role_arn",
        _text(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+", "arn:aws:iam::123456789012:role/tusz"),
        "AWS role to assume by Modal's identity token, in place of a secret",
    ),
    "TUSZ_WANDB_SECRET": Variable("wandb_secret", _NAME, "Modal secret with `WANDB_API_KEY`, for `train`"),
    "TUSZ_RAW_BUCKET": Variable("raw_bucket", _BUCKET, "bucket of raw EDF files, read-only at `/data` of `train`"),
    "TUSZ_POPULATE_CONTAINERS": Variable(
        "populate_containers", _number(1, WRITERS[2]), "containers that copy; at most 5 on a volume of version 1"
    ),
    "TUSZ_POPULATE_FROM": Variable(
        "populate_from", _text(r"s3|mount", "s3"), "`s3`: read the bucket; `mount`: a bucket mount at `/s3_cache`"
    ),
    "TUSZ_TRAIN_SECONDS": Variable(
        "train_seconds", _number(0, DAY - TO_STOP), "length of an attempt; the next goes on from its checkpoint"
    ),
    "TUSZ_EXPECT": Variable("expect", _counts, "npz files that each split must have, for `verify-cache`"),
}


def read_settings(environment: Mapping[str, str]) -> ModalSettings:
    """Return what the environment says; what it does not say, or says empty, is as by default. Raises UsageError."""
    told: dict[str, Any] = {}
    for name, text in environment.items():
        if name in VARIABLES:
            told |= _told(name, text) if text else {}
        elif name.startswith(PREFIX) and (near := difflib.get_close_matches(name, VARIABLES, 1, 0.85)):
            raise UsageError(f"there is no setting {name}", hint=f"did you mean {near[0]}?")
    return ModalSettings(**told)


def _told(name: str, text: str) -> dict[str, Any]:
    variable = VARIABLES[name]
    try:
        return {variable.field: variable.read(text)}
    except UsageError as error:
        raise UsageError(f"{name}={error}", hint=f"{variable.meaning}: {error.hint}") from error


def travelling(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return what must reach the containers, which do not have the caller's environment. No secrets are in it."""
    return {name: text for name, text in environment.items() if name in VARIABLES or name in TRAVELS}


def declared_mounts(volumes: Mapping[str, Any]) -> list[DeclaredMount]:
    """Return the guard's table of the very dictionary that a function is given as `volumes`.

    In a container a volume knows its id. What cannot be committed counts as a bucket, all else is the container's disk.
    """
    mounts = [DeclaredMount("/", "ephemeral")]
    for path, mounted in volumes.items():
        if hasattr(mounted, "commit"):
            mounts.append(DeclaredMount(path, "volume", mounted.name or "", mounted.object_id))
        else:
            mounts.append(DeclaredMount(path, "bucket"))
    return mounts


def sealed_on(mounts: Iterable[DeclaredMount], path: str) -> dict[str, str]:
    """Return the mount at `path` as a seal names it."""
    mount = next(mount for mount in mounts if mount.path == path)
    return {"kind": mount.kind, "name": mount.name, "object_id": mount.object_id}


def assume_role(settings: ModalSettings, environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return what AWS's clients need in the environment to assume the role. Writes Modal's token below `folder`.

    Raises UsageError if the platform gave no token.
    """
    if not settings.oidc_role_arn:
        return {}
    token = environment.get(IDENTITY_TOKEN, "")
    if not token:
        hint = "run it at Modal, which gives every container one; elsewhere use a secret"
        raise UsageError(f"TUSZ_OIDC_ROLE_ARN needs {IDENTITY_TOKEN}, which is not there", hint=hint)
    path = folder / "identity-token"
    ssd.write_file(ssd.Target(folder, Durability("none")), path, token.encode())
    told = {
        "AWS_ROLE_ARN": settings.oidc_role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(path),
        "AWS_ROLE_SESSION_NAME": "tusz",
    }
    return told | ({"AWS_DEFAULT_REGION": settings.region} if settings.region else {})  # whose STS is asked
