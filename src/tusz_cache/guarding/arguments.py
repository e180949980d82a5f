"""The mounts that Modal's own table of a container names: its arguments, a protobuf message.

Only its wire format is read, for a handful of fields, so that no SDK is needed. The message may hold secrets, so
nothing of it is ever shown.

Numbers of the fields as in modal_proto of modal 1.6.4:
ContainerArguments.function_def 7; of Function: shared_volume_mounts 16, volume_mounts 33, s3_mounts 47,
cloud_bucket_mounts 51; VolumeMount volume_id 1, mount_path 2; CloudBucketMount bucket_name 1, mount_path 2;
S3Mount bucket_name 1, mount_path 2; SharedVolumeMount mount_path 1, shared_volume_id 2.
"""

from collections.abc import Iterator

from tusz_cache.errors import UsageError
from tusz_cache.guarding.values import MountKind, PlatformMount

_FUNCTION = 7
_MOUNTS: dict[int, tuple[MountKind, int, int]] = {  # field of Function -> kind, field of its name, field of its path
    16: ("nfs", 2, 1),
    33: ("volume", 1, 2),
    47: ("bucket", 1, 2),
    51: ("bucket", 1, 2),
}
_FIXED = {1: 8, 5: 4}  # wire type -> bytes


def platform_mounts(blob: bytes) -> tuple[PlatformMount, ...]:
    """Return the mounts in the bytes of a ContainerArguments message. Raises UsageError if they are damaged."""
    # a message that comes several times is the sum of its parts
    function = b"".join(value for number, value in _fields(blob) if number == _FUNCTION)
    found = (_mount(_MOUNTS[number], value) for number, value in _fields(function) if number in _MOUNTS)
    return tuple(mount for mount in found if mount.path)


def _mount(form: tuple[MountKind, int, int], message: bytes) -> PlatformMount:
    kind, name_at, path_at = form
    texts = {number: _text(value) for number, value in _fields(message) if number in {name_at, path_at}}
    name, path = texts.get(name_at, ""), texts.get(path_at, "")
    return PlatformMount(path, kind, object_id=name) if kind == "volume" else PlatformMount(path, kind, name=name)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _damaged() from None  # the cause would show the bytes


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, bytes) of the fields that have a length: strings, bytes and messages."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _damaged()
        length = 0
        if wire == 0:
            _, at = _varint(message, at)
        elif wire == 2:
            length, at = _varint(message, at)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise _damaged()
        if at + length > len(message):
            raise _damaged()
        if wire == 2:
            yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where the next thing begins."""
    value = 0
    for index in range(10):
        if at + index >= len(message):
            raise _damaged()
        byte = message[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise _damaged()


def _damaged() -> UsageError:
    return UsageError(
        "the container arguments are no message that this version can read",
        hint="declare the mounts instead, and report the version of the platform's SDK",
    )
