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
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpclib.server
import pytest
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal._serialization import deserialize_data_format
from modal_proto import api_grpc
from modal_proto import api_pb2 as pb

from tests.support.running import Ran, environment

SDK = "1.6.4"  # whose protocol this speaks
ROOT = Path(__file__).parents[2]
APP = ROOT / "deploy" / "modal" / "app.py"
SUCCESS = pb.GenericResult.GENERIC_STATUS_SUCCESS
FAILURE = pb.GenericResult.GENERIC_STATUS_FAILURE
CRASHES = 8  # after which an input is given up
PATIENCE = 120  # seconds for one `modal run`


def needs_modal() -> None:
    """Skip where the SDK is another version than the one whose protocol is spoken here."""
    if version("modal") != SDK:
        pytest.skip(f"the control plane of the tests speaks the protocol of modal {SDK}, not {version('modal')}")


class View:
    """A volume as one container has it."""

    def __init__(self, whole: Path, own: Path, *, shown: Callable[[int], int] = int) -> None:
        """whole: what is committed; own: what the container sees; shown: what a commit makes of a time, in ns."""
        self.whole, self.own, self.shown = whole, own, shown
        self._theirs: dict[str, Any] = {}
        self._ours: dict[str, Any] = {}
        self.reload()

    def commit(self) -> None:
        """Give what changed here to all."""
        now = _files(self.own)
        changed = _follow(self.own, self.whole, self._ours, now, self.shown)
        self._ours, whole = now, _files(self.whole)
        self._theirs = {name: seen for name, seen in self._theirs.items() if name not in changed}
        self._theirs |= {name: whole[name] for name in changed if name in whole}

    def reload(self) -> None:
        """Take what changed elsewhere."""
        now = _files(self.whole)
        _follow(self.whole, self.own, self._theirs, now)
        self._theirs, self._ours = now, _files(self.own)


def _files(root: Path) -> dict[str, Any]:
    """Return what tells whether a file, or a folder, is another than before, by its path."""
    found: dict[str, Any] = {}
    for folder, _, names in os.walk(root):
        found[os.path.relpath(folder, root)] = None
        for name in names:
            stat = os.lstat(os.path.join(folder, name))
            found[os.path.relpath(os.path.join(folder, name), root)] = stat.st_size, stat.st_mtime_ns, stat.st_ino
    return found


def _follow(
    source: Path, target: Path, before: dict[str, Any], now: dict[str, Any], shown: Callable[[int], int] = int
) -> set[str]:
    """Do to `target` what was done to `source` since `before`. Returns what that was done to."""
    gone = before.keys() - now.keys()
    changed = {name for name in now if name not in before or now[name] != before[name]}
    for name in sorted(gone, reverse=True):
        with suppress(OSError):  # a folder that others use
            (target / name).rmdir() if before[name] is None else (target / name).unlink()
    for name in sorted(changed):
        if now[name] is None:
            _made(target / name)
        else:
            draft = target / f"{name}.moving"
            shutil.copy2(source / name, draft, follow_symlinks=False)
            os.utime(draft, ns=(shown(now[name][1]),) * 2, follow_symlinks=False)
            draft.replace(target / name)
    return gone | changed


@dataclass
class Call:
    """A call of a function: its inputs, and the outputs nobody has asked for yet."""

    function: str  # id
    outputs: list[pb.FunctionGetOutputsItem] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Task:
    """A container, for one attempt of one input."""

    id: str
    function: str  # name
    call: str
    input: pb.FunctionGetInputsItem
    process: asyncio.subprocess.Process | None = None
    output: pb.FunctionPutOutputsItem | None = None
    crash: pb.GenericResult | None = None  # of what failed outside of the function's body
    code: int | None = None
    struck: bool = False
    views: "dict[str, View]" = field(default_factory=dict)  # of volumes, by id


@dataclass
class Cloud:
    """What the control plane knows, and what a test tells it."""

    root: Path  # for volumes, trees and arguments
    secrets: dict[str, dict[str, str]]  # by name
    buckets: dict[str, Path]  # directories that pass for buckets where they are mounted, by name
    extra: dict[str, str]  # environment of all containers
    edits: dict[str, dict[str, str]]  # what stands in a container's file in place of what stands here, by its path
    url: str = ""
    functions: dict[str, pb.Function] = field(default_factory=dict)  # by id
    layout: dict[str, pb.Object] = field(default_factory=dict)  # by id
    volumes: dict[str, tuple[str, int]] = field(default_factory=dict)  # id and version, by name
    asked_secrets: list[pb.SecretGetOrCreateRequest] = field(default_factory=list)
    environments: dict[str, dict[str, str]] = field(default_factory=dict)  # of secrets, by id
    images: dict[str, pb.Image] = field(default_factory=dict)
    mounts: dict[str, dict[str, str]] = field(default_factory=dict)  # remote path -> digest, by id
    files: dict[str, bytes] = field(default_factory=dict)  # by digest
    calls: dict[str, Call] = field(default_factory=dict)
    called: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)  # function, arguments
    tasks: list[Task] = field(default_factory=list)
    commits: Counter[str] = field(default_factory=Counter)  # by function
    reloads: Counter[str] = field(default_factory=Counter)
    logs: "asyncio.Queue[str | None]" = field(default_factory=asyncio.Queue)
    log: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # calls that are not answered
    strike: Callable[[Task, str], int] = lambda _task, _rpc: 0  # signal for a container that makes a call; 0: none
    patience: int = 10  # retries that are granted at most, whatever a function's policy says
    shown: Callable[[int], int] = int  # what a commit makes of a file's time, in nanoseconds
    detached: bool = False
    numbers: Counter[str] = field(default_factory=Counter)

    def new_id(self, prefix: str) -> str:
        """Return an id that was not there."""
        self.numbers[prefix] += 1
        return f"{prefix}-{self.numbers[prefix]}"

    def function(self, name: str) -> pb.Function:
        """Return a function as it reached the control plane last."""
        return [one for one in self.functions.values() if one.function_name == name][-1]

    def volume(self, name: str = "tusz") -> Path:
        """Return the directory that stands in for a volume, which is made, of version 1, if it is not there."""
        made, _ = self.volumes.setdefault(name, (self.new_id("vo"), 1))
        return _made(self.root / "volumes" / made)

    def ran(self, function: str) -> list[Task]:
        """Return the containers of a function."""
        return [task for task in self.tasks if task.function == function]

    def forget(self) -> None:
        """Drop what was counted and called so far; volumes, functions and files stay."""
        counted = (self.called, self.tasks, self.log, self.commits, self.reloads, self.unknown, self.asked_secrets)
        for thing in counted:
            thing.clear()
        self.strike = lambda _task, _rpc: 0
        self.patience = 10
        self.shown = int

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, app: Path = APP, detach: bool = False) -> Ran:
        """Run `modal run APP ARGUMENTS` to its end. Its output is in `out`, standard error too."""
        given = {name: text for name, text in environment().items() if not name.startswith(("TUSZ_", "MODAL_", "BGB_"))}
        given |= {"MODAL_SERVER_URL": self.url, "MODAL_TOKEN_ID": "ak-x", "MODAL_TOKEN_SECRET": "as-x"}
        given |= {"MODAL_CONFIG_PATH": os.devnull, "COLUMNS": "200", "PYTHONWARNINGS": "default", **(env or {})}
        before = ["--detach"] if detach else []
        ran = subprocess.run(
            [sys.executable, "-m", "modal", "run", *before, str(app), *arguments],
            env=given,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, "\n".join(self.log))


class Plane(api_grpc.ModalClientBase):
    """The control plane as the command line sees it, or as one container does."""

    def __init__(self, cloud: Cloud, task: Task | None = None) -> None:
        self.cloud, self.task = cloud, task

    async def ClientHello(self, _: Any) -> Any:
        return pb.ClientHelloResponse()

    async def EnvironmentGetOrCreate(self, r: Any) -> Any:
        settings = pb.EnvironmentSettings(image_builder_version="2025.06")
        metadata = pb.EnvironmentMetadata(name=r.deployment_name or "main", settings=settings)
        return pb.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    async def AppCreate(self, r: Any) -> Any:
        self.cloud.detached = r.app_state == pb.APP_STATE_DETACHED
        self.cloud.logs = asyncio.Queue()
        return pb.AppCreateResponse(app_id=self.cloud.new_id("ap"), app_page_url="http://localhost/app")

    async def AppHeartbeat(self, _: Any) -> Any:
        return Empty()

    async def AppPublish(self, _: Any) -> Any:
        return pb.AppPublishResponse(url="http://localhost")

    async def AppClientDisconnect(self, _: Any) -> Any:
        if not self.cloud.detached:
            for task in self.cloud.tasks:
                if task.process is not None and task.process.returncode is None:
                    _kill(task)
        self.cloud.logs.put_nowait(None)
        return Empty()

    # images and what lies in them

    async def MountBatchedCheckExistence(self, r: Any) -> Any:
        missing = [digest for digest in r.sha256_hex_hashes if digest not in self.cloud.files]
        return pb.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, r: Any) -> Any:
        if r.WhichOneof("data_oneof"):
            self.cloud.files[r.sha256_hex] = r.data
        return pb.MountPutFileResponse(exists=r.sha256_hex in self.cloud.files)

    async def MountGetOrCreate(self, r: Any) -> Any:
        made = self.cloud.new_id("mo")
        self.cloud.mounts[made] = {file.filename: file.sha256_hex for file in r.files}
        metadata = pb.MountHandleMetadata(content_checksum_sha256_hex=made)
        return pb.MountGetOrCreateResponse(mount_id=made, handle_metadata=metadata)

    async def ImageGetOrCreate(self, r: Any) -> Any:
        made = self.cloud.new_id("im")
        self.cloud.images[made] = r.image
        self.cloud.layout[made] = pb.Object(object_id=made)
        metadata = pb.ImageMetadata(image_builder_version=r.builder_version)
        return pb.ImageGetOrCreateResponse(image_id=made, result=pb.GenericResult(status=SUCCESS), metadata=metadata)

    # volumes and secrets

    async def VolumeGetOrCreate(self, r: Any) -> Any:
        made, kind = self.cloud.volumes.setdefault(r.deployment_name, (self.cloud.new_id("vo"), r.version))
        metadata = pb.VolumeMetadata(name=r.deployment_name, version=kind)
        self.cloud.layout[made] = pb.Object(object_id=made, volume_metadata=metadata)
        return pb.VolumeGetOrCreateResponse(volume_id=made, version=kind, metadata=metadata)

    async def VolumeCommit(self, r: Any) -> Any:
        assert self.task is not None
        self.cloud.commits[self.task.function] += 1
        self.task.views[r.volume_id].commit()
        return pb.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, r: Any) -> Any:
        assert self.task is not None
        self.cloud.reloads[self.task.function] += 1
        self.task.views[r.volume_id].commit()  # as documented: it may
        self.task.views[r.volume_id].reload()
        return Empty()

    async def SecretGetOrCreate(self, r: Any) -> Any:
        self.cloud.asked_secrets.append(r)
        given = self.cloud.secrets.get(r.deployment_name) if r.deployment_name else dict(r.env_dict)
        if given is None or not set(r.required_keys) <= given.keys():
            raise GRPCError(Status.NOT_FOUND, f"no secret {r.deployment_name!r} with {list(r.required_keys)}")
        made = self.cloud.new_id("st")
        self.cloud.environments[made] = given
        self.cloud.layout[made] = pb.Object(object_id=made)
        return pb.SecretGetOrCreateResponse(secret_id=made, metadata=pb.SecretMetadata(name=r.deployment_name))

    # functions

    async def FunctionPrecreate(self, r: Any) -> Any:
        made = r.existing_function_id or self.cloud.new_id("fu")
        metadata = pb.FunctionHandleMetadata(function_name=r.function_name, function_type=r.function_type)
        return pb.FunctionPrecreateResponse(function_id=made, handle_metadata=metadata)

    async def FunctionCreate(self, r: Any) -> Any:
        made, function = r.existing_function_id or self.cloud.new_id("fu"), r.function
        data = pb.FunctionData(function_name=function.function_name)
        data.ranked_functions.add(rank=0).function.CopyFrom(function)
        metadata = pb.FunctionHandleMetadata(
            function_name=function.function_name,
            function_type=function.function_type,
            definition_id="de-1",
            supported_input_formats=[pb.DATA_FORMAT_PICKLE],
            supported_output_formats=[pb.DATA_FORMAT_PICKLE],
        )
        self.cloud.functions[made] = function
        self.cloud.layout[made] = pb.Object(object_id=made, function_handle_metadata=metadata)
        return pb.FunctionCreateResponse(function_id=made, function_data=data, handle_metadata=metadata)

    async def FunctionMap(self, r: Any) -> Any:
        made = self.cloud.new_id("fc")
        self.cloud.calls[made] = Call(r.function_id)
        return pb.FunctionMapResponse(
            function_call_id=made,
            function_call_jwt=made,
            max_inputs_outstanding=1000,
            pipelined_inputs=[_begun(self.cloud, made, item) for item in r.pipelined_inputs],
            retry_policy=self.cloud.functions[r.function_id].retry_policy,
        )

    async def FunctionPutInputs(self, r: Any) -> Any:
        begun = [_begun(self.cloud, r.function_call_id, item) for item in r.inputs]
        return pb.FunctionPutInputsResponse(inputs=begun)

    async def FunctionGetOutputs(self, r: Any) -> Any:
        call = self.cloud.calls[r.function_call_id]
        if not call.outputs and r.timeout:
            with suppress(TimeoutError):
                await asyncio.wait_for(call.ready.wait(), min(r.timeout, 5.0))
        outputs, call.outputs = call.outputs, []
        call.ready.clear()
        return pb.FunctionGetOutputsResponse(outputs=outputs, last_entry_id="1-0")

    # containers

    async def ContainerHello(self, _: Any) -> Any:
        return Empty()

    async def ContainerHeartbeat(self, _: Any) -> Any:
        return pb.ContainerHeartbeatResponse()

    async def FunctionGetInputs(self, _: Any) -> Any:
        assert self.task is not None
        return pb.FunctionGetInputsResponse(inputs=[self.task.input])

    async def FunctionPutOutputs(self, r: Any) -> Any:
        assert self.task is not None
        (self.task.output,) = r.outputs
        return Empty()

    async def TaskResult(self, r: Any) -> Any:
        assert self.task is not None
        self.task.crash = r.result
        return Empty()


async def _get_logs(self: Plane, stream: Any) -> None:
    """AppGetLogs: what containers print, until the command line leaves."""
    await stream.recv_message()
    while (line := await self.cloud.logs.get()) is not None:
        items = [pb.TaskLogs(data=line, file_descriptor=pb.FILE_DESCRIPTOR_STDOUT)]
        await stream.send_message(pb.TaskLogsBatch(entry_id=self.cloud.new_id("1"), items=items))
    await stream.send_message(pb.TaskLogsBatch(app_done=True))


def _answering(name: str) -> Callable[[Plane, Any], Any]:
    """Return the handler of a call: the method of its name, or a note that there is none."""
    answer = vars(Plane).get(name)

    async def handle(self: Plane, stream: Any) -> None:
        request = await stream.recv_message()
        if answer is None:
            self.cloud.unknown.append(name)
            raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not answered here")
        if self.task is not None and (number := self.cloud.strike(self.task, name)):
            _kill(self.task, number)
        await stream.send_message(await answer(self, request))

    return handle


for _name in Plane.__abstractmethods__ | {name for name in vars(Plane) if name[0].isupper()}:
    setattr(Plane, _name, _get_logs if _name == "AppGetLogs" else _answering(_name))
Plane.__abstractmethods__ = frozenset()


def _kill(task: Task, number: int = signal.SIGKILL) -> None:
    assert task.process is not None
    task.struck = True
    if number == signal.SIGKILL:
        os.killpg(task.process.pid, number)  # a container ends with all of its processes
    else:
        task.process.send_signal(number)


def _begun(cloud: Cloud, call: str, item: Any) -> Any:
    """Start an input, and return the answer to whoever sent it."""
    made = cloud.new_id("in")
    function = cloud.functions[cloud.calls[call].function]
    arguments, named = deserialize_data_format(item.input.args, item.input.data_format or pb.DATA_FORMAT_PICKLE, None)
    cloud.called.append((function.function_name, (*arguments, *named.values())))
    work = asyncio.get_running_loop().create_task(_finished(cloud, call, item, made))
    work.add_done_callback(lambda done: None if done.cancelled() else _noted(cloud, done.exception()))
    return pb.FunctionPutInputsResponseItem(idx=item.idx, input_id=made, input_jwt=made)


def _noted(cloud: Cloud, error: BaseException | None) -> None:
    """Keep what went wrong here for the test to see."""
    if error is not None:
        cloud.unknown.append(repr(error))


async def _finished(cloud: Cloud, call: str, item: Any, made: str) -> None:
    """Run an input in one container after the other, as long as they crash or its function's policy says."""
    function = cloud.functions[cloud.calls[call].function]
    retries = crashes = 0
    while True:
        given = pb.FunctionInput()
        given.CopyFrom(item.input)
        given.final_input = True
        handed = pb.FunctionGetInputsItem(input_id=made, input=given, function_call_id=call, retry_count=retries)
        task = await _contained(cloud, function, Task(cloud.new_id("ta"), function.function_name, call, handed))
        result = task.output.result if task.output else task.crash
        if result is None:  # it was killed, or asked to stop: the same input starts elsewhere
            crashes += 1
            if crashes <= CRASHES:
                continue
            result = pb.GenericResult(status=FAILURE, exception=f"the container ended with {task.code}")
        if result.status == SUCCESS or retries >= min(function.retry_policy.retries, cloud.patience):
            break
        retries += 1
    data_format = task.output.data_format if task.output else pb.DATA_FORMAT_PICKLE
    output = pb.FunctionGetOutputsItem(input_id=made, idx=item.idx, result=result, data_format=data_format)
    cloud.calls[call].outputs.append(output)
    cloud.calls[call].ready.set()


async def _contained(cloud: Cloud, function: Any, task: Task) -> Task:
    """Run one container to its end."""
    server = grpclib.server.Server([Plane(cloud, task)])
    await server.start("127.0.0.1", 0)
    cloud.tasks.append(task)
    home = cloud.root / "tasks" / task.id
    home.mkdir(parents=True)
    layout = pb.AppLayout(objects=list(cloud.layout.values()))
    for made, one in cloud.functions.items():
        layout.function_ids[one.function_name] = made  # the latest of each name
    arguments = pb.ContainerArguments(
        task_id=task.id,
        function_id=cloud.calls[task.call].function,
        app_id="ap-1",
        function_def=function,
        app_layout=layout,
        environment_name="main",
    )
    (home / "arguments").write_bytes(arguments.SerializeToString())
    given = {name: text for made in function.secret_ids for name, text in cloud.environments[made].items()}
    port = server._server.sockets[0].getsockname()[1]
    platform = {
        "MODAL_IS_REMOTE": "1",
        "MODAL_TASK_ID": task.id,
        "MODAL_SERVER_URL": f"http://127.0.0.1:{port}",
        "MODAL_CONTAINER_ARGUMENTS_PATH": "/__modal/arguments",
        "MODAL_ENVIRONMENT": "main",
        "MODAL_IDENTITY_TOKEN": "a.b.c",
    }
    for mount in function.volume_mounts:
        whole = _made(cloud.root / "volumes" / mount.volume_id)
        task.views[mount.volume_id] = View(whole, _made(home / "volumes" / mount.volume_id), shown=cloud.shown)
    spec = {
        "root": str(_tree(cloud, function)),
        "arguments": str(home / "arguments"),
        "volumes": {mount.mount_path: mount.volume_id for mount in function.volume_mounts},
        "homes": {made: str(view.own) for made, view in task.views.items()},
        "buckets": {mount.mount_path: str(cloud.buckets[mount.bucket_name]) for mount in function.cloud_bucket_mounts},
        "environment": cloud.extra | given | platform,
    }
    (home / "spec.json").write_text(json.dumps(spec))
    task.process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "tests.support.container", str(home / "spec.json")],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
        limit=2**20,
    )
    assert task.process.stdout is not None
    async for line in task.process.stdout:
        cloud.log.append(line.decode(errors="replace").rstrip("\n"))
        cloud.logs.put_nowait(line.decode(errors="replace"))
    task.code = await task.process.wait()
    server.close()
    await server.wait_closed()
    shutil.rmtree(home)
    return task


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _tree(cloud: Cloud, function: Any) -> Path:
    """Return a directory with the local files that the function's image has below /root."""
    tree = cloud.root / "trees" / "-".join(sorted(function.mount_ids))
    if not tree.exists():
        _made(tree)
        for made in function.mount_ids:
            for name, digest in cloud.mounts[made].items():
                path = tree / Path(name).relative_to("/root")
                _made(path.parent)
                text = cloud.files[digest]
                for before, after in cloud.edits.get(name, {}).items():
                    assert 1 == text.count(before.encode()), (name, before)
                    text = text.replace(before.encode(), after.encode())
                path.write_bytes(text)
    return tree


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
                _kill(task)
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
