"""What the control plane knows, and what a test tells it."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modal_proto import api_pb2 as pb

from tests.support.plane.volume import View, made
from tests.support.running import Ran, environment

ROOT = Path(__file__).parents[3]
APP = ROOT / "deploy" / "modal" / "app.py"
PATIENCE = 120  # seconds for one `modal run`


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
    answers: Callable[[Task], Any] = lambda _task: None  # handler of a container's calls
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
        number, _ = self.volumes.setdefault(name, (self.new_id("vo"), 1))
        return made(self.root / "volumes" / number)

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
