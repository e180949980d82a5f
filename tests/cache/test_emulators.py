"""gs://, az:// and sftp:// from servers that others wrote. What is not installed is skipped, with what to install."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import fsspec
import pytest
from gcp_storage_emulator.server import create_server
from gcsfs.core import GCSFileSystem

from tests.cache.conftest import PART, noise
from tests.support.cloudserver import AzureServer
from tests.support.running import tree
from tusz_cache import Access, Durability, populate_cache
from tusz_cache.progress import Progress

FILES = {f"train/p{number}.npz": noise(size, str(number)) for number, size in enumerate((0, 10, PART, 3 * PART + 1))}


def check(source: str, options: dict[str, Any], target: Path, verification: dict[str, int]) -> None:
    """A cache arrives, is verified as it must be, and does not arrive again."""
    usual: dict[str, Any] = {
        "part_size": PART,
        "durability": Durability("none"),
        "access": Access(storage_options=options),
    }
    report = populate_cache(source, target, progress=Progress("quiet"), **usual)
    assert (0, True, verification) == (report.exit_code, report.sealed, report.verification)
    assert tree(target) == FILES
    assert 0 == populate_cache(source, target, progress=Progress("quiet"), **usual).bytes_copied


def test_google_emulator(target: Path) -> None:
    """gs:// works with gcp-storage-emulator, and the CRC32C that it keeps is checked."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="labbucket")
    server.start()
    try:
        host, port = server._api._httpd.server_address
        options = {"endpoint_url": f"http://{host}:{port}", "token": "anon"}
        filesystem = GCSFileSystem(**options, skip_instance_cache=True)
        for key, data in FILES.items():
            filesystem.pipe_file(f"labbucket/tusz/{key}", data)
        check("gs://labbucket/tusz", options, target, {"source-crc": len(FILES)})
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: object, port: int) -> Iterator[None]:
    """Run a server until the end of the block, which begins once it accepts connections."""
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 30
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None, "the server ended"
                assert time.monotonic() < until, "the server does not listen"
                time.sleep(0.05)
            yield
        finally:
            server.kill()


@pytest.mark.skipif(not shutil.which("azurite-blob"), reason="azurite is not there: npm install -g azurite")
def test_azurite(target: Path) -> None:
    """az:// works with Azurite, which checks signatures, and the MD5 that it keeps is checked."""
    port = free_port()
    account = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AzureServer.KEY}"
    options = {"connection_string": f"{account};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"}
    flags = "--silent", "--inMemoryPersistence", "--skipApiVersionCheck"
    with process("azurite-blob", "--blobPort", port, *flags, port=port):
        filesystem = fsspec.filesystem("az", **options, skip_instance_cache=True)
        filesystem.mkdir("labcontainer")
        for key, data in FILES.items():
            filesystem.pipe_file(f"labcontainer/tusz/{key}", data)
        check("az://labcontainer/tusz", options, target, {"etag-md5": len(FILES)})


SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.mark.skipif(not SSHD, reason="sshd is not there: apt-get install openssh-server")
def test_openssh(target: Path, tmp_path: Path) -> None:
    """sftp:// works with OpenSSH's own server."""
    port, keys = free_port(), tmp_path / "keys"
    keys.mkdir(mode=0o700)
    host, client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    host.write_private_key(keys / "host")
    (keys / "host").chmod(0o600)
    client.write_private_key(keys / "client")
    client.write_public_key(keys / "authorized")
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    Path("/run/sshd").mkdir(exist_ok=True)  # where it insists on one when root runs it
    for key, data in FILES.items():
        (tmp_path / "tusz" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tusz" / key).write_bytes(data)
    settings = {
        "HostKey": keys / "host",
        "AuthorizedKeysFile": keys / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "ListenAddress": "127.0.0.1",
        "Subsystem": "sftp internal-sftp",
    }
    words = [word for pair in settings.items() for word in ("-o", "{}={}".format(*pair))]
    options = {"client_keys": str(keys / "client"), "known_hosts": str(keys / "known_hosts")}
    with process(SSHD, "-D", "-e", "-f", os.devnull, "-p", port, *words, port=port):
        check(f"sftp://127.0.0.1:{port}{tmp_path}/tusz", options, target, {"own-crc": len(FILES)})
