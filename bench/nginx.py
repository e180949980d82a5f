"""nginx as an S3 server for benches: objects by sendfile, with their CRC64NVME; listings come from `bench.lister`.

Debian's package is `nginx-light`. Signatures are not checked, which costs no client anything. As in the security
policies that AWS publishes, AES-128-GCM is the first choice of TLS 1.3, which nginx has to be told to offer.
"""

import base64
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from awscrt.checksums import crc64nvme

from bench.lister import Server
from tusz_cache.entry import Entry

BUCKET = "bench"
_CONFIG = """
daemon off; pid {work}/pid; error_log {work}/error.log error; worker_processes {workers};
events {{ worker_connections 1024; }}
http {{
  log_format moment "$msec $uri"; access_log {access_log}; sendfile on; tcp_nopush on;
  keepalive_requests 10000000; keepalive_timeout 300s; etag on;
  types {{ }} default_type binary/octet-stream;
  client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c; uwsgi_temp_path {work}/d;
  scgi_temp_path {work}/e; map_hash_max_size 262144; map_hash_bucket_size 256;
  map $uri $object_crc {{ include {work}/crc.map; }}
  map $http_range $crc {{ "" $object_crc; }}  # as S3: with whole answers only
  limit_conn_zone $server_addr zone=all:1m;
  upstream listing {{ server 127.0.0.1:{listing}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384;
    ssl_certificate {work}/cert.pem; ssl_certificate_key {work}/key.pem; ssl_session_cache shared:tls:10m;
    root {root};
    location / {{ {limits} add_header x-amz-checksum-crc64nvme $crc; add_header x-amz-checksum-type FULL_OBJECT; }}
    location ~ ^/[^/]*/?$ {{ proxy_pass http://listing; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


def etag_of(path: Path) -> str:
    """Return the ETag that nginx gives a file: hexadecimal mtime and size."""
    stat = path.stat()
    return f"{int(stat.st_mtime):x}-{stat.st_size:x}"


class Nginx:
    """Serves the files below `root`/bench as s3://bench, by http and by https. A context manager."""

    def __init__(self, root: Path, work: Path, *, logs: bool = False, limits: str = "") -> None:
        """work: an empty directory for configuration, certificate and logs. Raises FileNotFoundError without nginx.

        logs: write the moment (seconds since 1970) and path of each request to work/access.log, when it was answered.
        limits: directives for objects, such as limit_rate.
        """
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError("nginx is not installed: apt-get install nginx-light")
        self._program, self._root, self._work = program, root, work
        self._access_log = f"{work}/access.log moment" if logs else "off"
        self._limits = limits
        self._stack = ExitStack()
        self._ports = _free_ports(2)
        self.cafile = work / "cert.pem"

    def url(self, scheme: str) -> str:
        """Return the endpoint for "http" or "https"."""
        return f"{scheme}://127.0.0.1:{self._ports[scheme == 'https']}"

    def __enter__(self) -> Self:
        files = sorted(path for path in (self._root / BUCKET).rglob("*") if path.is_file())
        base = self._root / BUCKET
        rows = [Entry(path.relative_to(base).as_posix(), path.stat().st_size, etag_of(path)) for path in files]
        with (self._work / "crc.map").open("w") as table:
            for path in files:
                crc = base64.b64encode(crc64nvme(path.read_bytes(), 0).to_bytes(8, "big")).decode()
                table.write(f'"/{path.relative_to(self._root)}" "{crc}";\n')
        _certificate(self._work)
        listing = self._stack.enter_context(Server(sorted(rows, key=lambda row: row.key)))
        threading.Thread(target=listing.serve_forever, daemon=True).start()
        self._stack.callback(listing.shutdown)
        config = self._work / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                work=self._work,
                access_log=self._access_log,
                limits=self._limits,
                root=self._root,
                workers=os.cpu_count(),
                listing=listing.server_port,
                http=self._ports[0],
                https=self._ports[1],
            )
        )
        command = [self._program, "-p", str(self._work), "-c", str(config)]
        process = self._stack.enter_context(subprocess.Popen(command))
        self._stack.callback(process.terminate)
        _wait_for(self._ports[0], process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]


def _certificate(work: Path) -> None:
    """Make a certificate for 127.0.0.1 that is its own authority."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(work / "key.pem"), "-out", str(work / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("nginx does not answer")
