"""What the Modal app defines: its functions, what they are given, and that the guide says the same. Nothing runs."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.running import environment
from tusz_cache import UsageError, read_prices
from tusz_cache.modal_settings import VARIABLES, ModalSettings
from tusz_train import load_config

modal = pytest.importorskip("modal")

ROOT = Path(__file__).parents[2]
APP = ROOT / "deploy" / "modal" / "app.py"

GUIDE = (ROOT / "docs" / "modal.md").read_text(encoding="utf-8")
CACHE = "/results/cache/tusz"
HOUR, GIB = 3600, 1024


def load_app(**environment: str) -> Any:
    """Import the app under a name of its own, with these settings."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TUSZ_")}
    with mock.patch.dict(os.environ, kept | environment, clear=True):
        spec = importlib.util.spec_from_file_location("app_under_test", APP)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    return load_app()


def test_importing_needs_no_account(app: Any):
    """The file is imported without a token, a network and a package around it, which would hide the SDK."""
    assert not (APP.parent / "__init__.py").exists()
    assert not (APP.parents[1] / "__init__.py").exists()
    assert {"populate_cache", "populate_shard", "verify_cache", "pack_cache", "doctor", "train", "evaluate"} == set(
        app.FUNCTIONS
    )


def test_the_app_is_thin():
    """It is read in one sitting, and neither catches what it does not know nor talks to a store itself."""
    text = APP.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 320
    assert [] == re.findall(r"import (?:fsspec|s3fs|boto3|shutil|torch)|except Exception|except:", text)


# the strategy's checklist, line by line


def test_training_mounts_no_bucket_of_the_cache():
    """app.py has no bucket mount for the cache in training: none at, above or below the cache's path."""
    told = {"TUSZ_BUCKET": "b-1", "TUSZ_PREFIX": "cache/tusz", "TUSZ_RAW_BUCKET": "raw", "TUSZ_POPULATE_FROM": "mount"}
    volumes = load_app(**told).FUNCTIONS["train"]["volumes"]

    assert ["/results", "/data"] == list(volumes)
    assert isinstance(volumes["/results"], modal.Volume)
    buckets = [Path(path) for path, mounted in volumes.items() if not isinstance(mounted, modal.Volume)]
    cache = Path(CACHE)
    assert [] == [path for path in buckets if cache.is_relative_to(path) or path.is_relative_to(cache)]


def test_training_uses_the_cache_on_the_volume(app: Any):
    """train() uses /results/cache/tusz, not /cache; so do both configurations."""
    assert (CACHE, f"{CACHE}-packed") == (app.CACHE, app.STORE)
    assert "/cache" not in app.FUNCTIONS["train"]["volumes"]
    for name in ("smoke", "train"):
        data = load_config(ROOT / "configs" / "modal" / f"{name}.yaml").data
        assert (CACHE, f"{CACHE}-packed") == (data.cache_dir, data.store_dir)
        assert data.expected_files is not None
        assert ModalSettings().expect == data.expected_files.model_dump() == {"train": 4667, "dev": 1832}


def test_populate_exists(app: Any):
    """populate_cache() is there, with the volume, and reads the bucket itself unless it is told to mount it."""
    assert ["/results"] == list(app.FUNCTIONS["populate_cache"]["volumes"])
    told = {"TUSZ_BUCKET": "b-1", "TUSZ_POPULATE_FROM": "mount"}
    assert ["/results", "/s3_cache"] == list(load_app(**told).FUNCTIONS["populate_shard"]["volumes"])


# what stands elsewhere too


def row(name: str, given: dict[str, Any]) -> str:
    """Return a function's row in the guide's table."""
    prices = read_prices()
    retries = given.get("retries", 0)
    disk = given.get("ephemeral_disk")
    hour = given["cpu"] * prices.usd("modal_cpu") + given["memory"] * 2**20 * prices.usd("modal_memory")
    hour = HOUR * (hour * (3 if given.get("nonpreemptible") else 1) + ("gpu" in given) * prices.usd("modal_gpu"))
    cells = [
        f"`{name}`",
        given.get("gpu", ""),
        f"{given['cpu']:g}",
        f"{given['memory'] / GIB:g} GiB",
        f"{disk / GIB:g} GiB" if disk else "",
        f"{given['timeout'] / HOUR:g} h",
        str(getattr(retries, "max_retries", retries)),
        ", ".join(f"`{path}`" for path in given["volumes"]),
        f"{hour:.2f}",
    ]
    return "| " + " | ".join(cells).replace("|  |", "| |").replace("|  |", "| |") + " |"


def test_the_guide_has_the_functions_table(app: Any):
    """Each function's row in docs/modal.md is what the function is given, and its price what the price list says."""
    assert [] == [line for line in (row(name, given) for name, given in app.FUNCTIONS.items()) if line not in GUIDE]


def test_the_guide_has_every_setting():
    """Each setting stands in docs/modal.md with its default and meaning."""
    defaults = ModalSettings()
    for name, variable in VARIABLES.items():
        value = getattr(defaults, variable.field)
        shown = ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        assert f"| `{name}` | {shown or 'none'} | {variable.meaning} |" in GUIDE


def test_the_guide_s_commands_are_taken():
    """Every `modal run` of the guide names options that the entrypoint has."""
    command = [sys.executable, "-m", "modal", "run", str(APP), "--help"]
    told = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT, check=False).stdout
    known = set(re.findall(r"--[a-z][a-z-]*", told))
    asked = {
        option for line in re.findall(r"deploy/modal/app\.py(.*)", GUIDE) for option in re.findall(r"--[a-z-]+", line)
    }

    assert {"--action", "--config", "--checkpoint", "--split", "--resume"} <= known
    assert asked <= known
    for action in ("populate-cache", "verify-cache", "pack-cache", "doctor", "train", "evaluate", "cost"):
        assert action in told
        assert f"--action {action}" in GUIDE


def test_the_image_s_extra_names_no_package_of_ours():
    """What the image installs from pyproject.toml can be had from an index: this package cannot."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    assert [] == [line for line in [*project["dependencies"], *extras["train"]] if line.startswith(project["name"])]
    assert set(extras["score"]) <= set(extras["train"])


def test_mistakes_in_options_are_told(app: Any, tmp_path: Path):
    """What is no YAML file and no line of a shell is an error with a hint, where the user is."""
    (tmp_path / "train.yaml").write_bytes(b"\xff")
    for wrong in (lambda: app.sent(str(tmp_path / "train.yaml")), lambda: app.words("a='b"), lambda: app.sent("")):
        with pytest.raises(UsageError) as caught:
            wrong()
        assert caught.value.hint
    assert ["loop.steps=2", "run.name=a b"] == app.words("loop.steps=2 'run.name=a b'")
    assert ("configs/nowhere.yaml", None) == app.sent("configs/nowhere.yaml")  # looked for in the image


def test_attempts_of_training_end_before_the_platform_ends_them(app: Any):
    """A run stops itself a quarter of an hour before its time is up, and the next attempt is a fresh container."""
    given = app.FUNCTIONS["train"]

    assert app.SETTINGS.train_seconds + 900 <= given["timeout"] <= 24 * HOUR
    assert given["single_use_containers"]
    assert 10 == given["retries"].max_retries
    assert "A100-80GB" == given["gpu"]
    assert 512 * GIB <= given["ephemeral_disk"] <= 3 * GIB * GIB
