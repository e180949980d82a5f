"""Inputs of functions, each executed by the SDK's own entrypoint in a process that sees what a container sees."""

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import grpclib.server
from modal._serialization import deserialize_data_format
from modal_proto import api_pb2 as pb

from tests.support.plane.cloud import ROOT, Cloud, Task
from tests.support.plane.volume import View, made

SUCCESS = pb.GenericResult.GENERIC_STATUS_SUCCESS
FAILURE = pb.GenericResult.GENERIC_STATUS_FAILURE
CRASHES = 8  # after which an input is given up


def kill(task: Task, number: int = signal.SIGKILL) -> None:
    """Send a container a signal."""
    assert task.process is not None
    task.struck = True
    if number == signal.SIGKILL:
        os.killpg(task.process.pid, number)  # a container ends with all of its processes
    else:
        task.process.send_signal(number)


def begun(cloud: Cloud, call: str, item: Any) -> Any:
    """Start an input, and return the answer to whoever sent it."""
    number = cloud.new_id("in")
    function = cloud.functions[cloud.calls[call].function]
    arguments, named = deserialize_data_format(item.input.args, item.input.data_format or pb.DATA_FORMAT_PICKLE, None)
    cloud.called.append((function.function_name, (*arguments, *named.values())))
    work = asyncio.get_running_loop().create_task(_finished(cloud, call, item, number))
    work.add_done_callback(lambda done: None if done.cancelled() else _noted(cloud, done.exception()))
    return pb.FunctionPutInputsResponseItem(idx=item.idx, input_id=number, input_jwt=number)


def _noted(cloud: Cloud, error: BaseException | None) -> None:
    """Keep what went wrong here for the test to see."""
    if error is not None:
        cloud.unknown.append(repr(error))


async def _finished(cloud: Cloud, call: str, item: Any, number: str) -> None:
    """Run an input in one container after the other, as long as they crash or its function's policy says."""
    function = cloud.functions[cloud.calls[call].function]
    retries = crashes = 0
    while True:
        given = pb.FunctionInput()
        given.CopyFrom(item.input)
        given.final_input = True
        handed = pb.FunctionGetInputsItem(input_id=number, input=given, function_call_id=call, retry_count=retries)
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
    output = pb.FunctionGetOutputsItem(input_id=number, idx=item.idx, result=result, data_format=data_format)
    cloud.calls[call].outputs.append(output)
    cloud.calls[call].ready.set()


async def _contained(cloud: Cloud, function: Any, task: Task) -> Task:
    """Run one container to its end."""
    server = grpclib.server.Server([cloud.answers(task)])
    await server.start("127.0.0.1", 0)
    cloud.tasks.append(task)
    home = cloud.root / "tasks" / task.id
    home.mkdir(parents=True)
    layout = pb.AppLayout(objects=list(cloud.layout.values()))
    for number, one in cloud.functions.items():
        layout.function_ids[one.function_name] = number  # the latest of each name
    arguments = pb.ContainerArguments(
        task_id=task.id,
        function_id=cloud.calls[task.call].function,
        app_id="ap-1",
        function_def=function,
        app_layout=layout,
        environment_name="main",
    )
    (home / "arguments").write_bytes(arguments.SerializeToString())
    given = {name: text for number in function.secret_ids for name, text in cloud.environments[number].items()}
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
        whole = made(cloud.root / "volumes" / mount.volume_id)
        task.views[mount.volume_id] = View(whole, made(home / "volumes" / mount.volume_id), shown=cloud.shown)
    spec = {
        "root": str(_tree(cloud, function)),
        "arguments": str(home / "arguments"),
        "volumes": {mount.mount_path: mount.volume_id for mount in function.volume_mounts},
        "homes": {number: str(view.own) for number, view in task.views.items()},
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


def _tree(cloud: Cloud, function: Any) -> Path:
    """Return a directory with the local files that the function's image has below /root."""
    tree = cloud.root / "trees" / "-".join(sorted(function.mount_ids))
    if not tree.exists():
        made(tree)
        for number in function.mount_ids:
            for name, digest in cloud.mounts[number].items():
                path = tree / Path(name).relative_to("/root")
                made(path.parent)
                text = cloud.files[digest]
                for before, after in cloud.edits.get(name, {}).items():
                    assert 1 == text.count(before.encode()), (name, before)
                    text = text.replace(before.encode(), after.encode())
                path.write_bytes(text)
    return tree
