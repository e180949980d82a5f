"""What the guard says inside gVisor, where every mount is "9p none" and mounts below a mount cannot be told apart."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import mounting
from tests.support.guarded import FILE, accepted, filled, make_source, refused
from tests.support.running import Ran
from tests.support.sandbox import sandboxed

VOLUMES = "/__modal/volumes"
STORE, UNKNOWN, MIXED = "REFUSE_OBJECT_STORE", "REFUSE_UNKNOWN", "REFUSE_MIXED"


@dataclass(frozen=True)
class Case:
    """A question to the guard, and its answer."""

    path: str
    declared: list[dict[str, str]] = field(default_factory=list)
    verdict: str = UNKNOWN
    seal: str = "require"
    table: bytes = b""  # the platform's own


def volume(path: str, number: str, kind: str = "volume") -> list[dict[str, str]]:
    return [{"path": path, "kind": kind, "name": "tusz", "object_id": number}]


def message(number: int, content: bytes) -> bytes:
    """Return a field of a protobuf message, of less than 128 bytes."""
    tag = number << 3 | 2
    return bytes([tag & 0x7F | 0x80, tag >> 7, len(content)] if tag > 0x7F else [tag, len(content)]) + content


def table(number: int, name: str, path: str) -> bytes:
    """Return a container's arguments as Modal encodes them, with one mount."""
    return message(7, message(number, message(1, name.encode()) + message(2, path.encode())))


CASES = {
    "a declared volume": Case("/data", volume("/data", "vo-abc123"), "ACCEPT_DECLARED"),
    "a folder of a declared volume": Case("/data/cache", volume("/data", "vo-abc123"), "ACCEPT_DECLARED"),
    "another link to a declared volume": Case("/again", volume("/data", "vo-abc123"), "ACCEPT_DECLARED"),
    "a volume without a seal": Case("/bare", volume("/bare", "vo-bare1"), "REFUSE_NO_SEAL"),
    "a volume whose seal is ignored": Case("/bare", volume("/bare", "vo-bare1"), "ACCEPT_DECLARED", "ignore"),
    "a declared volume in the platform's table": Case(
        "/data", volume("/data", "vo-abc123"), "ACCEPT_DECLARED", table=table(33, "vo-abc123", "/data")
    ),
    "an undeclared volume": Case("/data"),
    "a volume that is only in the platform's table": Case("/data", table=table(33, "vo-abc123", "/data")),
    "a volume by its platform's path, undeclared": Case(f"{VOLUMES}/vo-abc123"),
    "a volume beside the declared one": Case("/other", volume("/data", "vo-abc123")),
    "a path that only begins like the declared one": Case("/data2", volume("/data", "vo-abc123")),
    "a link from a declared path to another volume": Case("/data", volume("/data", "vo-other9")),
    "a bucket declared as one": Case("/bucket", volume("/bucket", "", "bucket"), STORE),
    "a bucket declared a volume": Case("/bucket", volume("/bucket", "vo-bucket1"), STORE),
    "a bucket declared a volume, by the real path": Case(
        f"{VOLUMES}/vo-bucket1", volume(f"{VOLUMES}/vo-bucket1", "vo-bucket1"), STORE
    ),
    "a bucket declared a volume, its seal ignored": Case("/bucket", volume("/bucket", "vo-bucket1"), STORE, "ignore"),
    "a bucket declared the container's disk": Case("/bucket", volume("/bucket", "", "ephemeral"), STORE),
    "an undeclared bucket": Case("/bucket", [], STORE),
    "a volume that the platform calls a bucket": Case(
        "/data", volume("/data", "vo-abc123"), STORE, table=table(51, "tusz", "/data")
    ),
    "a volume with a bucket below it": Case("/mixed", volume("/mixed", "vo-mixed1"), STORE),
    "a volume with a bucket below it, its seal ignored": Case("/mixed", volume("/mixed", "vo-mixed1"), STORE, "ignore"),
    "a volume with one file from a bucket": Case("/linked", volume("/linked", "vo-linked1"), MIXED),
    "a url": Case("s3://bucket/tusz", volume("/data", "vo-abc123"), STORE),
}
LINKS = {
    "/data": "vo-abc123",
    "/data2": "vo-other9",
    "/again": "vo-abc123",
    "/other": "vo-other9",
    "/bare": "vo-bare1",
    "/bucket": "vo-bucket1",
    "/mixed": "vo-mixed1",
    "/linked": "vo-linked1",
}

# Asks everything in one process of one sandbox: to start them takes longer than the answers.
ASK = """
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
print("inside", file=sys.stderr, flush=True)
from tusz_cache.guard import main
answers = {}
for name, (path, mounts, seal, table) in json.load(open("/cases/cases.json")).items():
    os.environ.pop("MODAL_CONTAINER_ARGUMENTS_PATH", None)
    if table:
        os.environ["MODAL_CONTAINER_ARGUMENTS_PATH"] = table
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main([path, "--json", "--seal", seal, "--mounts", mounts])
    answers[name] = code, out.getvalue(), err.getvalue()
json.dump(answers, sys.stdout)
"""


@dataclass(frozen=True)
class Answers:
    """What the guard said to each case, and what it asked of the bucket."""

    by_case: dict[str, Any]
    touched: set[str]  # operations on files of buckets


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """Ask the guard in a sandbox whose volumes lie on this machine's disk, and whose buckets are fakes among them."""
    base = tmp_path_factory.mktemp("gvisor")
    volumes, cases = base / "volumes", base / "cases"
    source = make_source(base / "source")
    sealed = filled(base / "sealed", source)
    for name in ("vo-abc123", "vo-abc123/cache", "vo-other9", "vo-mixed1", "vo-linked1"):
        shutil.copytree(sealed, volumes / name, dirs_exist_ok=True)
    shutil.copytree(source, volumes / "vo-bare1")
    (volumes / "vo-linked1" / FILE).unlink()
    (volumes / "vo-linked1" / FILE).symlink_to(f"{VOLUMES}/vo-bucket1/{FILE}")
    cases.mkdir()
    asked = {}
    for number, (name, case) in enumerate(CASES.items()):
        (cases / f"{number}.json").write_text(json.dumps(case.declared))
        (cases / f"{number}.bin").write_bytes(case.table)
        table = f"/cases/{number}.bin" if case.table else ""
        asked[name] = case.path, f"/cases/{number}.json", case.seal, table
    (cases / "cases.json").write_text(json.dumps(asked))
    with (
        mounting.private_mounts(),
        mounting.bucket(sealed, volumes / "vo-bucket1") as bucket,
        mounting.bucket(sealed / "train", volumes / "vo-mixed1" / "train") as below,
    ):
        done = sandboxed(
            base / "bundle",
            ["-c", ASK],
            binds={VOLUMES: volumes, "/cases": cases},
            links={path: f"{VOLUMES}/{name}" for path, name in LINKS.items()},
            env={"MODAL_TASK_ID": "ta-1", "MODAL_IS_REMOTE": "1"},
        )
        if "inside" not in done.err:
            pytest.skip(f"gVisor does not run here: {done.err[-300:]}")
        assert 0 == done.code, done.err
        yield Answers(done.json, bucket.opened | below.opened)


@pytest.mark.parametrize("name", CASES)
def test_in_gvisor_only_a_declared_volume_is_accepted(answers: Answers, name: str) -> None:
    """A volume that is declared, lies where it must and does not look like a bucket is accepted. All else is not."""
    done, verdict = Ran(*answers.by_case[name]), CASES[name].verdict
    if verdict.startswith("ACCEPT"):
        accepted(done, verdict)
    else:
        refused(done, verdict)


def test_in_gvisor_no_file_of_a_bucket_is_read(answers: Answers) -> None:
    """Nothing was read from the buckets, nor written to them. Opened they are: gVisor opens what it looks up."""
    assert answers.touched <= {"OPEN"}
