"""S3 servers that others wrote: moto's and rclone's."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.rclone import serve_s3
from tests.support.running import run, tree

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")

MIB = 1024**2
KEY = "tusz/train/aaaaaaac_s001_t000_windows.npz"


@contextmanager
def moto() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture(params=["moto", "rclone"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    with moto() if request.param == "moto" else serve_s3(tmp_path / "served") as url:
        yield url


def client(endpoint: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=endpoint, **keys)


def test_a_cache_comes_whole_from_any_server(endpoint: str, tmp_path: Path) -> None:
    """Small, large, empty and oddly named objects arrive; a second run is idle; a same-size edit is fetched."""
    store = client(endpoint)
    store.create_bucket(Bucket="bucket")
    objects = {KEY: os.urandom(7 * MIB + 3), "tusz/dev/ä ö%20+&.npz": b"x" * 1000, "tusz/dev/empty": b""}
    for key, body in objects.items():
        store.put_object(Bucket="bucket", Key=key, Body=body)
    options = ["s3://bucket/tusz", tmp_path / "target", "--endpoint-url", endpoint, "--part-size", "1MiB", "--json"]
    first, second = run("sync", *options), run("sync", *options)

    assert 0 == first.code, first.err
    assert {key.removeprefix("tusz/"): body for key, body in objects.items()} == tree(tmp_path / "target")
    assert 0 == first.json["verification"]["own-crc"]
    assert (0, 3, True) == (second.json["bytes"]["copied"], second.json["files"]["unchanged"], second.json["sealed"])

    edited = os.urandom(1000)
    store.put_object(Bucket="bucket", Key="tusz/dev/ä ö%20+&.npz", Body=edited)
    third = run("sync", *options)

    assert (0, 1000) == (third.code, third.json["bytes"]["copied"])
    assert edited == tree(tmp_path / "target")["dev/ä ö%20+&.npz"]


def test_an_object_uploaded_in_parts_is_proven(tmp_path: Path) -> None:
    """moto tells the parts of an upload, so that its composite ETag or checksum is recomputed and fits."""
    with moto() as endpoint:
        store = client(endpoint)
        store.create_bucket(Bucket="parts")
        upload = store.create_multipart_upload(Bucket="parts", Key=KEY)["UploadId"]
        bodies = [os.urandom(5 * MIB), os.urandom(6 * MIB), os.urandom(12345)]
        parts = []
        for number, body in enumerate(bodies, start=1):
            asked = {"Bucket": "parts", "Key": KEY, "UploadId": upload, "PartNumber": number}
            parts.append({"PartNumber": number, "ETag": store.upload_part(**asked, Body=body)["ETag"]})
        store.complete_multipart_upload(Bucket="parts", Key=KEY, UploadId=upload, MultipartUpload={"Parts": parts})
        target = tmp_path / "target"
        ran = run("sync", "s3://parts/tusz", target, "--endpoint-url", endpoint, "--json")

    assert 0 == ran.code, ran.err
    assert 0 == ran.json["verification"]["own-crc"]
    assert {KEY.removeprefix("tusz/"): b"".join(bodies)} == tree(target)
