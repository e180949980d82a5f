"""What the reading of Modal's container arguments must be: the platform's own mounts, and nothing secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.errors import UsageError
from tusz_cache.guarding.arguments import platform_mounts
from tusz_cache.guarding.values import PlatformMount

VOLUME = PlatformMount("/data", "volume", object_id="vo-1")
BUCKET = PlatformMount("/bucket", "bucket", name="b")
SHARED = PlatformMount("/nfs", "nfs", name="sv-1")


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    """Return a field as protobuf writes it."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def arguments(*fields: bytes) -> bytes:
    """Return container arguments whose function has these fields."""
    return field(1, "ta-1") + field(7, b"".join(fields)) + field(11, "gvisor")


def volume(path: str = "/data", of: str = "vo-1") -> bytes:
    return field(33, field(1, of) + field(2, path) + field(4, 1))


@pytest.mark.parametrize(
    ("blob", "expected"),
    [
        (b"", ()),
        (field(1, "ta-1"), ()),
        (arguments(), ()),
        (arguments(volume()), (VOLUME,)),
        (arguments(field(51, field(1, "b") + field(2, "/bucket") + field(8, "prefix"))), (BUCKET,)),
        (arguments(field(47, field(1, "b") + field(2, "/bucket"))), (BUCKET,)),
        (arguments(field(16, field(1, "/nfs") + field(2, "sv-1"))), (SHARED,)),
        (arguments(volume(), volume("/b", "vo-2")), (VOLUME, PlatformMount("/b", "volume", object_id="vo-2"))),
        (arguments(volume()) + field(7, field(51, field(1, "b") + field(2, "/bucket"))), (VOLUME, BUCKET)),
        (arguments(field(33, field(2, "/x") + field(2, "/data") + field(1, "vo-1"))), (VOLUME,)),  # the last counts
        (arguments(field(33, field(1, "vo-1"))), ()),  # mounted nowhere
        (arguments(varint(5 << 3 | 1) + bytes(8) + varint(6 << 3 | 5) + bytes(4) + volume()), (VOLUME,)),
    ],
)
def test_mounts_are_read_from_the_wire(blob: bytes, expected: tuple[PlatformMount, ...]):
    """Volumes, buckets and shared volumes are found among whatever else is there."""
    assert expected == platform_mounts(blob)


SECRET = b"sk-hunter2"


@pytest.mark.parametrize(
    "blob",
    [
        b"\x3a",  # a message without its length
        b"\x3a\x05ab",  # one that ends early
        b"\xff" * 20,  # a number that does not end
        b"\x00\x01",  # field 0
        b"\x3b",  # a group
        b"\x3f",  # no wire type
        arguments(field(33, field(1, b"\xff\xfe" + SECRET))),  # no text
        arguments(SECRET),
        arguments(volume())[:-9],
    ],
)
def test_damaged_bytes_are_an_error_that_shows_nothing(blob: bytes):
    """A message that cannot be read is a UsageError with a hint, and nothing of the bytes is in it."""
    with pytest.raises(UsageError) as caught:
        platform_mounts(blob)
    assert None is caught.value.__cause__
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@given(st.binary(max_size=80) | st.lists(st.binary(max_size=12)).map(lambda parts: arguments(*parts)))
def test_any_bytes_are_mounts_or_an_error(blob: bytes):
    """Nothing but UsageError comes out of bytes that are no such message."""
    try:
        mounts = platform_mounts(blob)
    except UsageError:
        return
    assert all(mount.path for mount in mounts)


@pytest.fixture(scope="module")
def proto():
    """Return the platform's own definitions."""
    return pytest.importorskip("modal_proto.api_pb2", reason="the platform's SDK is not installed")


def test_the_numbers_are_the_platforms_own(proto):
    """What the platform's SDK writes is read back the same."""
    message = proto.ContainerArguments(task_id="ta-1", serialized_params=b"\x80secret")
    function = message.function_def
    function.module_name = "app"
    function.volume_mounts.add(volume_id="vo-1", mount_path="/data", read_only=True, sub_path="x")
    function.cloud_bucket_mounts.add(bucket_name="b", mount_path="/bucket", credentials_secret_id="st-1")
    function.s3_mounts.add(bucket_name="b", mount_path="/bucket")
    function.shared_volume_mounts.add(shared_volume_id="sv-1", mount_path="/nfs")

    assert {VOLUME, BUCKET, SHARED} == set(platform_mounts(message.SerializeToString()))


@given(data=st.data())
def test_a_damaged_message_is_read_as_the_platform_would(proto, data):
    """Where both the platform's parser and ours make sense of damaged bytes, they see the same mounts."""
    blob = bytearray(arguments(volume(), field(51, field(1, "b") + field(2, "/bucket")), volume("/c", "vo-3")))
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    decode_error = pytest.importorskip("google.protobuf.message").DecodeError
    message = proto.ContainerArguments()
    try:
        message.ParseFromString(bytes(blob))
        ours = platform_mounts(bytes(blob))
    except (decode_error, UsageError):
        return
    theirs = [(one.volume_id, one.mount_path) for one in message.function_def.volume_mounts]
    theirs += [(one.bucket_name, one.mount_path) for one in message.function_def.cloud_bucket_mounts]
    known = [(one.object_id or one.name, one.path) for one in ours if one.kind in {"volume", "bucket"}]
    if not message.function_def.s3_mounts:
        assert sorted(pair for pair in theirs if pair[1]) == sorted(known)
