"""A scripted loopback S3 server for tests and benches: a directory served as path-style S3.

    with S3Server(root, page_size=2, faults=[{"key": "a/*", "do": "flip", "arg": 7}]) as server:
        ...  # boto3.client("s3", endpoint_url=server.url)
        server.stats()["ranges"]["bucket/a/b"]  # [[start, sent], ...], one pair for each GET

`/BUCKET/KEY` is ROOT/BUCKET/KEY; `/_index/BUCKET/dir/` is the same tree as plain HTML links, without credentials.
All settings are in DEFAULTS, all faults in `s3/faults.py`; `configure` replaces those that it is given.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

from tests.support.s3.values import DEFAULTS

__all__ = ["DEFAULTS", "S3Server"]

ROOT = Path(__file__).parents[2]  # from where the server finds its modules


class S3Server:
    """A server in a subprocess, which ends with the context, or with this process."""

    def __init__(self, root: str | os.PathLike[str], tls: tuple[str, str] | None = None, **settings: Any) -> None:
        self.root, self.tls, self.settings = root, tls, settings

    def __enter__(self) -> S3Server:
        command = [sys.executable, "-m", "tests.support.s3.serving", "--root", os.path.abspath(self.root)]
        if self.tls:
            command += ["--tls", *map(os.path.abspath, self.tls)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline() or 0)
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        try:
            self.configure(**self.settings)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def configure(self, **settings: Any) -> None:
        self.request("PUT", "/_settings", json.dumps(settings))

    def stats(self) -> dict[str, Any]:
        return self.request("GET", "/_stats")

    def reset(self) -> None:
        self.request("POST", "/_reset")

    def request(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        with closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read().decode()
        if response.status != 200:
            raise ValueError(text)
        stats: dict[str, Any] = json.loads(text)
        return stats
