"""The demo is what a newcomer sees first, so it must work as it stands."""

import importlib.util
from pathlib import Path

import pytest

from tests.support.running import run, tree
from tusz_cache import open_store

pytest.importorskip("moto.server", reason="the demo's S3 server is not installed: pip install 'tusz-cache[demo]'")


@pytest.mark.slow
def test_the_demo_is_killed_once_and_ends_with_a_scored_run(tmp_path: Path) -> None:
    """moto's S3 to disk, killed once on the way: equal bytes, a seal, an idle second run, a store, a scored model."""
    ran = run("demo", tmp_path / "demo", "--json", timeout=280)

    assert 0 == ran.code, ran.err
    assert 0 < ran.json["killed_after"] < ran.json["sync"]["files"]["total"]
    assert 0 == ran.json["again"]["bytes"]["copied"]
    assert ran.json["verify"]["ok"]
    windows = sum(split["windows"] for split in ran.json["pack"]["splits"].values())
    assert windows == len(open_store(tmp_path / "demo" / "store", "train")) + len(
        open_store(tmp_path / "demo" / "store", "dev")
    )
    assert {"npz", "store"} == ran.json["windows_per_second"].keys()
    assert min(ran.json["windows_per_second"].values()) > 0
    if importlib.util.find_spec("torch"):
        assert 0 < ran.json["evaluation"]["recordings"]
        assert "SzCORE" in Path(ran.json["report"]).read_text(encoding="utf-8")
    assert tree(tmp_path / "demo" / "source") == tree(tmp_path / "demo" / "cache")


def test_the_demo_leaves_a_directory_alone_that_it_did_not_make(tmp_path: Path) -> None:
    """A directory with files of the user's is refused, untouched."""
    (tmp_path / "thesis.tex").write_text("all of it")
    ran = run("demo", tmp_path)

    assert 2 == ran.code
    assert {"thesis.tex": b"all of it"} == tree(tmp_path)
