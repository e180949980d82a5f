"""The image as the control plane is asked for it: built in the right order, or refused before a container starts."""

from pathlib import Path

import pytest

pytest.importorskip("modal")

from tests.deploy.conftest import cloned, ended
from tests.support.controlplane import Cloud, control_plane

TORCH = ".pip_install(TORCH)"
CONFIGS = '.add_local_dir(root / "configs", "/root/configs")'
ORDER = "tried to run a build step after using `image.add_local_*`"


def steps(cloud: Cloud, function: str) -> list[str]:
    """Return all lines that build a function's image, from the base up."""
    lines: list[str] = []
    number = cloud.function(function).image_id
    while number:
        one = cloud.images[number]
        lines[:0] = one.dockerfile_commands
        number = next((base.image_id for base in one.base_images), "")
    return lines


def test_the_image_is_built_in_order(cloud: Cloud, tmp_path: Path):
    """Debian, the pinned torch, the rest from pyproject.toml; no local file is in a step: they come on top, mounted."""
    ended(cloud.run("--action", "doctor", app=cloned(tmp_path), env={"TUSZ_VOLUME": "image"}), 2)  # there is no cache

    lines = steps(cloud, "doctor")
    installs = [line for line in lines if line.startswith("RUN python -m pip install")]
    assert lines[0].startswith("FROM python:3.11")
    assert "RUN python -m pip install torch==2.13.0" == installs[0]
    assert 2 == len(installs)
    assert all(name in installs[1] for name in ("'pydantic>=", "'s3fs>=", "'tensorboard>="))  # the extra train too
    assert [] == [line for line in lines if line.startswith(("COPY", "ADD"))]
    assert not any(image.context_mount_id for image in cloud.images.values())
    mounted = {name for number in cloud.function("doctor").mount_ids for name in cloud.mounts[number]}
    assert {"/root/configs/modal/train.yaml", "/root/tusz_cache/sync.py", "/root/tusz_train/run.py"} <= mounted
    assert 1 == len(cloud.ran("doctor"))


@pytest.mark.parametrize(
    ("without", "edits", "words"),
    [
        pytest.param("configs", {}, "configs does not exist", id="no configs"),
        pytest.param("pyproject.toml", {}, "No such file or directory: '{home}/pyproject.toml'", id="no pyproject"),
        pytest.param("", {'"tusz_train", ignore': '"tusz_gone", ignore'}, "tusz_gone has no spec", id="no package"),
        pytest.param("", {CONFIGS: CONFIGS + TORCH}, ORDER, id="install last"),
        pytest.param("", {TORCH: CONFIGS + TORCH}, ORDER, id="files first"),
    ],
)
def test_a_wrong_image_starts_nothing(tmp_path: Path, without: str, edits: dict[str, str], words: str):
    """A missing file or steps in a wrong order end with status 1 and their reason: no function, call or container."""
    with control_plane(tmp_path / "plane") as cloud:
        ran = ended(cloud.run("--action", "doctor", app=cloned(tmp_path, edits, without=without)), 1)

        assert words.format(home=tmp_path) in ran.out
        assert ({}, [], []) == (cloud.functions, cloud.called, cloud.tasks)
