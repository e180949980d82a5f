"""Modal's control plane and its containers, on loopback, so that the real `modal run` runs without an account.

The protocol is that of the SDK's own stubs. Each input of a function is executed by the SDK's own container entrypoint
in a process of its own, in a mount namespace that looks like a container (tests.support.container): with /root as the
image's local files make it, secrets in the environment, and volumes as symlinks to /__modal/volumes/vo-…. A process
may be killed; its input then starts again, and what fails is tried again as the function's policy says, without delay.

Each container has a volume as it was when the container started. A commit gives its changes to all, file by file, the
last one wins; a reload takes those of others; a container that is killed takes with it what it did not commit. That is
the documented behaviour, and no more: there is no gVisor, no GPU, no commit in the background, no limit, no preemption.
"""

import asyncio
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import grpclib.server
import pytest

from tests.support.plane.calls import Plane
from tests.support.plane.cloud import APP, ROOT, Cloud, Task
from tests.support.plane.containers import kill

__all__ = ["APP", "ROOT", "Cloud", "Task", "control_plane"]

SDK = "1.6.4"  # whose protocol this speaks


def needs_modal() -> None:
    """Skip where the SDK is another version than the one whose protocol is spoken here."""
    if version("modal") != SDK:
        pytest.skip(f"the control plane of the tests speaks the protocol of modal {SDK}, not {version('modal')}")


@contextmanager
def control_plane(
    root: Path,
    *,
    secrets: Mapping[str, dict[str, str]] | None = None,
    buckets: Mapping[str, Path] | None = None,
    extra: Mapping[str, str] | None = None,
    edits: Mapping[str, dict[str, str]] | None = None,
) -> Iterator[Cloud]:
    """Serve on a free port until the end of the context."""
    needs_modal()
    cloud = Cloud(root, dict(secrets or {}), dict(buckets or {}), dict(extra or {}), dict(edits or {}))
    cloud.answers = lambda task: Plane(cloud, task)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="control-plane", daemon=True)
    thread.start()

    async def begin() -> grpclib.server.Server:
        server = grpclib.server.Server([Plane(cloud)])
        await server.start("127.0.0.1", 0)
        return server

    async def end() -> None:
        for task in cloud.tasks:
            if task.process is not None and task.process.returncode is None:
                kill(task)
                await task.process.wait()
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for one in rest:
            one.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    cloud.url = f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
    try:
        yield cloud
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        shutil.rmtree(root / "tasks", ignore_errors=True)
