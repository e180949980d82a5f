"""The command's options for shards, and what it prints."""

from pathlib import Path

import pytest

from tests.cache.conftest import Bucket
from tests.cache.shards.conftest import SIZES


@pytest.mark.parametrize(
    "options",
    [
        ["--plan", "--finish"],
        ["--plan", "--shard", "1/2"],
        ["--shard", "1/2", "--finish"],
        ["--shard", "3/2"],
        ["--shard", "1"],
        ["--plan", "--dry-run"],
        ["--shard", "1/2", "--dry-run"],
        ["--finish", "--dry-run"],
        ["--shard", "1/2", "--delete"],
        ["--shard", "1/2", "--reverify"],
    ],
)
def test_options_that_make_no_sense_together(command, target: Path, options: list[str]):
    """They are exit 2, before anything is looked at."""
    ran = command("s3://bucket", target, *options)

    assert 2 == ran.code
    assert not target.exists()


def test_the_plan_is_shown(filled: Bucket, target: Path, command):
    """`--plan` prints what is to be done, the plan's name, and how large shards would be."""
    options = [filled.url, target, "--endpoint-url", filled.server.url, "--quiet", "--plan"]
    shown, printed = command(*options, "--json").json, command(*options).out

    assert shown["plan_id"] in printed
    assert "--shard I/4" in printed
    assert len(SIZES) == shown["files"]["copy"]
    assert {"2", "4", "8", "16", "32"} == shown["shards"].keys()
    assert {sum(SIZES.values())} == {sum(part["bytes"] for part in parts) for parts in shown["shards"].values()}


def test_a_shard_is_told_by_json(filled: Bucket, target: Path, command):
    """A shard's report has the form of sync's, for its own files; the finisher's is for all."""
    options = [filled.url, target, "--endpoint-url", filled.server.url, "--quiet", "--json"]
    one, two, end = (command(*options, *how).json for how in (["--shard", "1/2"], ["--shard", "2/2"], ["--finish"]))

    assert ("1/2", "2/2", None) == (one["shard"], two["shard"], end["shard"])
    assert len(SIZES) == one["files"]["copied"] + two["files"]["copied"] == end["files"]["total"]
    assert (False, False, True) == (one["sealed"], two["sealed"], end["sealed"])
    assert one.keys() == end.keys()
