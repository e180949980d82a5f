"""The ways to copy that `bench.sync` compares: this tool, its peers, the floor. Each is a command of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

S3FS_GET = """
import sys, s3fs
url, prefix, target, cafile = sys.argv[1:]
fs = s3fs.S3FileSystem(endpoint_url=url, client_kwargs={"verify": cafile} if url.startswith("https") else {})
fs.get(prefix + "/", target + "/", recursive=True)
"""

# pip compiles what it installs; a source tree is compiled by the first run, and by every one where this is set
AS_INSTALLED: dict[str, str | None] = {"PYTHONDONTWRITEBYTECODE": None}


@dataclass(frozen=True)
class Job:
    """What an arm is to copy."""

    url: str  # of the server
    prefix: str  # BUCKET/PREFIX
    target: Path
    cafile: Path  # trusted where `url` is https

    @property
    def tls(self) -> bool:
        """Whether bytes are encrypted."""
        return self.url.startswith("https")


@dataclass(frozen=True)
class Arm:
    """One way to copy."""

    name: str
    program: str  # that must be there
    version: tuple[str, ...]  # arguments that make it print its version
    command: Callable[[str, Job], list[str]]  # from the program's path
    checks: str  # what it proves of the bytes

    def find(self, peers: str | None) -> str | None:
        """Return the path of the program: beside this Python, below `peers`, or on PATH."""
        places = [str(Path(sys.executable).parent), peers or "", os.environ.get("PATH", "")]
        return shutil.which(self.program, path=os.pathsep.join(filter(None, places)))

    def version_of(self, program: str) -> str:
        """Return the version that the program prints."""
        ran = subprocess.run([program, *self.version], capture_output=True, text=True, check=True)
        found = re.search(r"\d+\.\d+(\.\d+)?", ran.stdout + ran.stderr)
        return found[0] if found else "?"


def _ours(python: str, job: Job) -> list[str]:
    source = f"s3://{job.prefix}"
    return [python, "-m", "tusz_cache.sync", source, str(job.target), "--endpoint-url", job.url, "--quiet"]


def _s5cmd(program: str, job: Job) -> list[str]:
    insecure = ["--no-verify-ssl"] if job.tls else []
    return [
        program,
        "--endpoint-url",
        job.url,
        *insecure,
        "--log",
        "error",
        "cp",
        f"s3://{job.prefix}/*",
        f"{job.target}/",
    ]


def _rclone(program: str, job: Job) -> list[str]:
    remote = f":s3,provider=Other,env_auth=true,list_version=2,endpoint='{job.url}':{job.prefix}"
    insecure = ["--no-check-certificate"] if job.tls else []
    return [program, "--config", os.devnull, "copy", remote, str(job.target), "--transfers", "16", *insecure]


def _aws(program: str, job: Job) -> list[str]:
    command = [program, "s3", "sync", f"s3://{job.prefix}", str(job.target), "--endpoint-url", job.url]
    return [*command, "--region", "us-east-1", "--only-show-errors"]


ARMS = (
    Arm(
        "floor (raw sockets)",
        "python",
        ("--version",),
        lambda python, job: [python, "-m", "bench.floor", job.url, job.prefix, str(job.target)],
        "nothing",
    ),
    Arm("tusz_cache.sync", "python", ("--version",), _ours, "CRC64NVME of the source, fsync"),
    Arm("s5cmd cp", "s5cmd", ("version",), _s5cmd, "nothing"),
    Arm("rclone copy", "rclone", ("version",), _rclone, "size (the ETags here are no MD5)"),
    Arm("aws s3 sync", "aws", ("--version",), _aws, "CRC of whole answers"),
    Arm(
        "s3fs.get",
        "python",
        ("-c", "import s3fs; print(s3fs.__version__)"),
        lambda python, job: [python, "-c", S3FS_GET, job.url, job.prefix, str(job.target), str(job.cafile)],
        "nothing",
    ),
)
