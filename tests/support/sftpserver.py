"""A real SFTP server on loopback: asyncssh's, in a thread of this process, with a key made on the fly."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import asyncssh

from tests.support.running import tree


class _Files(asyncssh.SFTPServer):
    """Files below a folder, read as the server's settings say."""

    def __init__(self, channel: Any, home: "SftpServer") -> None:
        super().__init__(channel, chroot=str(home.folder).encode())
        self.home = home

    async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        home = self.home
        if home.act is not None:
            act, home.act = home.act, None
            act()
        while home.hang.is_set():
            await asyncio.sleep(0.05)
        await asyncio.sleep(home.delay)
        data = super().read(file_obj, offset, size)
        home.sent += len(data)
        return data


class _Connections(asyncssh.SSHServer):
    """Remembers who is connected."""

    def __init__(self, home: "SftpServer") -> None:
        self.home = home

    def connection_made(self, conn: Any) -> None:
        self.connection = conn
        self.home.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.home.connections.discard(self.connection)


class SftpServer:
    """Serves `folder` until the end of the context, to whoever has `client_key`."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder, self.keys = folder, keys
        self.versions = 0
        self.sent = 0  # bytes
        self.delay = 0.0  # seconds for every read of at most some 64 KiB
        self.hang = threading.Event()  # while set, reads are not answered
        self.act: Any = None  # called once, before the first bytes of a file are read
        self.connections: set[Any] = set()
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> "SftpServer":
        host, client = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
        self.client_key = self.keys / "client"
        client.write_private_key(self.client_key)
        client.write_public_key(self.keys / "authorized")
        self._host = host
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._listen()
        self.known_hosts = self.keys / "known_hosts"
        known = host.export_public_key().decode()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {known}")
        return self

    def _listen(self) -> None:
        async def go() -> Any:
            return await asyncssh.listen(
                "127.0.0.1",
                0,
                server_host_keys=[self._host],
                authorized_client_keys=str(self.keys / "authorized"),
                server_factory=lambda: _Connections(self),
                sftp_factory=lambda channel: _Files(channel, self),
            )

        self._acceptor = asyncio.run_coroutine_threadsafe(go(), self._loop).result(30)
        self.port = self._acceptor.get_port()

    def vanish(self) -> None:
        """End all connections at once, and accept no more."""

        async def go() -> None:
            for connection in list(self.connections):
                connection.abort()
            self._acceptor.close()
            await self._acceptor.wait_closed()

        asyncio.run_coroutine_threadsafe(go(), self._loop).result(30)

    def __exit__(self, *_: object) -> None:
        self.hang.clear()
        self.vanish()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # what it has in common with CloudServer

    scheme = "sftp"

    @property
    def root(self) -> str:
        return f"sftp://user@127.0.0.1:{self.port}/tusz"

    def put(self, key: str, data: bytes) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        self.versions += 1
        draft = self.folder / "draft"
        draft.write_bytes(data)
        os.utime(draft, (1_700_000_000 + self.versions,) * 2)  # the protocol tells whole seconds
        draft.replace(path)

    def drop(self, key: str) -> None:
        (self.folder / key).unlink()

    def contents(self) -> dict[str, bytes]:
        return tree(self.folder)

    def options(self) -> dict[str, Any]:
        return {"client_keys": str(self.client_key), "known_hosts": str(self.known_hosts)}
