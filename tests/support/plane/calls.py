"""The calls of the SDK's protocol, as the command line and as containers make them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_grpc
from modal_proto import api_pb2 as pb

from tests.support.plane.cloud import Call, Cloud, Task
from tests.support.plane.containers import SUCCESS, begun, kill


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
                    kill(task)
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
            pipelined_inputs=[begun(self.cloud, made, item) for item in r.pipelined_inputs],
            retry_policy=self.cloud.functions[r.function_id].retry_policy,
        )

    async def FunctionPutInputs(self, r: Any) -> Any:
        answers = [begun(self.cloud, r.function_call_id, item) for item in r.inputs]
        return pb.FunctionPutInputsResponse(inputs=answers)

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
            kill(self.task, number)
        await stream.send_message(await answer(self, request))

    return handle


for _name in Plane.__abstractmethods__ | {name for name in vars(Plane) if name[0].isupper()}:
    setattr(Plane, _name, _get_logs if _name == "AppGetLogs" else _answering(_name))
Plane.__abstractmethods__ = frozenset()
