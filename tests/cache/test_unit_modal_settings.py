"""What the Modal app is told by the environment: defaults, mistakes, and what follows."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tusz_cache import DeclaredMount, UsageError
from tusz_cache.modal_settings import (
    VARIABLES,
    ModalSettings,
    assume_role,
    declared_mounts,
    read_settings,
    sealed_on,
    travelling,
)

ROLE = "arn:aws:iam::123456789012:role/tusz"


def test_nobody_s_account_is_built_in():
    """Without an environment there is no bucket and no secret, a volume of version 1, and four containers."""
    settings = read_settings({"PATH": "/bin"})

    assert ModalSettings() == settings
    assert ("", "", "", "", "") == (
        settings.bucket,
        settings.aws_secret,
        settings.oidc_role_arn,
        settings.wandb_secret,
        settings.raw_bucket,
    )
    assert ("tusz", 1, 4) == (settings.volume, settings.volume_version, settings.populate_containers)
    assert {"train": 4667, "dev": 1832} == settings.expect
    with pytest.raises(UsageError, match="TUSZ_BUCKET is not set"):
        _ = settings.source


def test_each_setting_is_read():
    """Every variable reaches its field; an empty one is as if it were not there."""
    told = {
        "TUSZ_BUCKET": "my-bucket",
        "TUSZ_PREFIX": "/cache/tusz/",
        "TUSZ_REGION": "eu-west-1",
        "TUSZ_ENDPOINT_URL": "http://127.0.0.1:9000",
        "TUSZ_VOLUME": "eeg",
        "TUSZ_VOLUME_VERSION": "2",
        "TUSZ_AWS_SECRET": "aws",
        "TUSZ_OIDC_ROLE_ARN": "",
        "TUSZ_WANDB_SECRET": "wandb",
        "TUSZ_RAW_BUCKET": "raw-edf",
        "TUSZ_POPULATE_CONTAINERS": "16",
        "TUSZ_POPULATE_FROM": "mount",
        "TUSZ_TRAIN_SECONDS": "3600",
        "TUSZ_EXPECT": "train=6,dev=2",
    }
    assert set(told) == set(VARIABLES)
    settings = read_settings(told)

    assert "s3://my-bucket/cache/tusz" == settings.source
    assert ("eeg", 2, 16, 3600) == (
        settings.volume,
        settings.volume_version,
        settings.populate_containers,
        settings.train_seconds,
    )
    assert {"train": 6, "dev": 2} == settings.expect
    assert "http://127.0.0.1:9000" == settings.access.endpoint_url
    assert {"client_kwargs": {"region_name": "eu-west-1"}} == settings.access.storage_options
    assert not settings.access.anon
    assert "/s3_cache" == settings.origin[0]


@pytest.mark.parametrize("region", ["auto", "us-west-004", "fsn1"])
def test_a_store_beside_s3_has_regions_of_its_own(region: str):
    """With an endpoint the region is what that store calls it, e.g. "auto"."""
    told = {"TUSZ_BUCKET": "my-bucket", "TUSZ_ENDPOINT_URL": "https://id.r2.cloudflarestorage.com"}

    assert region == read_settings(told | {"TUSZ_REGION": region}).region


def test_the_whole_bucket_may_be_the_cache():
    """A slash alone is no prefix."""
    assert "s3://my-bucket" == read_settings({"TUSZ_BUCKET": "my-bucket", "TUSZ_PREFIX": "/"}).source


def test_without_secret_and_role_the_bucket_is_public():
    """Nothing to be known by means no credentials, instead of those that happen to lie around."""
    assert read_settings({"TUSZ_BUCKET": "my-bucket"}).access.anon
    assert not read_settings({"TUSZ_BUCKET": "my-bucket", "TUSZ_OIDC_ROLE_ARN": ROLE}).access.anon


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"TUSZ_BUCKET": "s3://my-bucket/x"}, "TUSZ_BUCKET='s3://my-bucket/x'"),
        ({"TUSZ_REGION": "Ireland"}, "TUSZ_REGION='Ireland'"),
        ({"TUSZ_REGION": "us-east"}, "TUSZ_REGION='us-east' is no region of AWS"),
        ({"TUSZ_PREFIX": "s3://my-bucket/cache"}, "TUSZ_PREFIX='s3://my-bucket/cache'"),
        ({"TUSZ_PREFIX": "cache//tusz"}, "TUSZ_PREFIX='cache//tusz'"),
        ({"TUSZ_ENDPOINT_URL": "localhost:9000"}, "TUSZ_ENDPOINT_URL="),
        ({"TUSZ_VOLUME": "a volume"}, "TUSZ_VOLUME='a volume'"),
        ({"TUSZ_VOLUME_VERSION": "3"}, "no number from 1 to 2"),
        ({"TUSZ_POPULATE_CONTAINERS": "many"}, "TUSZ_POPULATE_CONTAINERS='many'"),
        ({"TUSZ_POPULATE_CONTAINERS": "0"}, "TUSZ_POPULATE_CONTAINERS='0'"),
        ({"TUSZ_POPULATE_CONTAINERS": "6"}, "is not from 1 to 5"),
        ({"TUSZ_POPULATE_CONTAINERS": "101", "TUSZ_VOLUME_VERSION": "2"}, "no number from 1 to 100"),
        ({"TUSZ_POPULATE_FROM": "nfs"}, "TUSZ_POPULATE_FROM='nfs'"),
        ({"TUSZ_TRAIN_SECONDS": "86400"}, "no number from 0 to 85500"),
        ({"TUSZ_EXPECT": "train"}, "TUSZ_EXPECT='train'"),
        ({"TUSZ_EXPECT": "train=1;dev=2"}, "TUSZ_EXPECT="),
        ({"TUSZ_OIDC_ROLE_ARN": "tusz"}, "TUSZ_OIDC_ROLE_ARN='tusz'"),
        ({"TUSZ_AWS_SECRET": "aws", "TUSZ_OIDC_ROLE_ARN": ROLE}, "two ways to be known"),
        ({"TUSZ_BUKET": "my-bucket"}, "there is no setting TUSZ_BUKET"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_mistake_is_named_with_a_hint(told: dict[str, str], words: str):
    """What is wrong stands in the message, what to do in the hint; the exit status is that of a setting."""
    with pytest.raises(UsageError) as caught:
        read_settings(told)

    assert words in str(caught.value)
    assert caught.value.hint
    assert 2 == caught.value.exit_code


def test_another_program_s_variables_are_let_be():
    """A name that is like none of ours is not ours."""
    assert ModalSettings() == read_settings({"TUSZ_HOME": "/data/tusz", "TUSZ_ANNOTATOR": "me"})


def test_settings_travel_and_nothing_else_does():
    """The containers get the settings and the file limit, and no key of the caller's."""
    told = {
        "TUSZ_BUCKET": "b",
        "BGB_LIMIT_FILES": "50",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "TUSZ_HOME": "/",
        "PATH": "/",
    }

    assert {"TUSZ_BUCKET": "b", "BGB_LIMIT_FILES": "50"} == travelling(told)


def test_the_guard_s_table_is_that_of_the_mounts():
    """A volume is declared with its id, everything else as a bucket, what nothing is mounted on as the own disk."""
    volume = SimpleNamespace(name="tusz", object_id="vo-1", commit=None)
    mounts = declared_mounts({"/results": volume, "/data": object()})

    assert [
        DeclaredMount("/", "ephemeral"),
        DeclaredMount("/results", "volume", "tusz", "vo-1"),
        DeclaredMount("/data", "bucket"),
    ] == mounts
    assert {"kind": "volume", "name": "tusz", "object_id": "vo-1"} == sealed_on(mounts, "/results")


def test_a_role_is_assumed_by_the_platform_s_token(tmp_path: Path):
    """The token lies in a file whose name AWS's clients are told; without a role nothing is written."""
    told = assume_role(ModalSettings(oidc_role_arn=ROLE), {"MODAL_IDENTITY_TOKEN": "a.b.c"}, tmp_path)

    assert ROLE == told["AWS_ROLE_ARN"]
    assert "a.b.c" == Path(told["AWS_WEB_IDENTITY_TOKEN_FILE"]).read_text()
    with pytest.raises(UsageError, match="MODAL_IDENTITY_TOKEN"):
        assume_role(ModalSettings(oidc_role_arn=ROLE), {}, tmp_path)
    assert {} == assume_role(ModalSettings(), {}, tmp_path / "nowhere")
