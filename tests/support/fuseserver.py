"""A FUSE server over a directory that passes for the bucket mount of your choice, and notes what it is asked for.

`python fuseserver.py DIRECTORY MOUNTPOINT --fstype fuse --source mountpoint-s3 --like mountpoint-s3 --log FILE`

It mounts read-write, so that attempts to write get here; they are noted and denied. Needs root. It does not unmount:
whoever starts it does that.
"""

import argparse
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

ROOT = 1  # node of the mounted directory
MS_NOSUID, MS_NODEV = 2, 4
ATTR_SECONDS = 0  # how long the kernel may remember: not at all, so that every question arrives


class Op(IntEnum):
    """What the kernel asks."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    COPY_FILE_RANGE = 47
    TMPFILE = 51


UNANSWERED = {Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT}
WRITES = {Op.SETATTR, Op.SYMLINK, Op.MKNOD, Op.MKDIR, Op.UNLINK, Op.RMDIR, Op.RENAME, Op.LINK, Op.WRITE, Op.SETXATTR}
WRITES |= {Op.REMOVEXATTR, Op.CREATE, Op.FALLOCATE, Op.RENAME2, Op.COPY_FILE_RANGE, Op.TMPFILE}
OPEN_TO_WRITE = "OPEN-TO-WRITE"  # how an OPEN is noted that wants to write
WRITING = {op.name for op in WRITES} | {OPEN_TO_WRITE}


class Size(NamedTuple):
    """What statfs is answered with."""

    blocks: int  # of frsize, all of them free
    files: int  # likewise
    bsize: int  # bytes
    frsize: int  # bytes; 0: as bsize
    used: int = 0  # blocks and files that are not free


LIKE = {
    "mountpoint-s3": Size((2**64 - 1) // 1024, (2**64 - 1) // 1024, 512, 0),
    "goofys": Size(2**38, 10**9, 2**20, 4096),
    "gcsfuse": Size(2**33, 2**50, 2**20, 2**17),
    "s3fs": Size(2**32 - 1, 0, 2**24, 2**24),
    "rclone": Size(2**38, 10**9, 4096, 4096),
    "disk": Size(10**8, 10**7, 4096, 4096, used=10**6),
}


class Server:
    """Answers what the kernel asks about the files below `directory`."""

    def __init__(self, directory: str, size: Size, log: int) -> None:
        self.size, self.log = size, log
        self.paths = {ROOT: directory}  # by node
        self.nodes = {directory: ROOT}
        self.answers: dict[int, Callable[[int, bytes], bytes]] = {
            Op.INIT: self.init,
            Op.LOOKUP: self.lookup,
            Op.GETATTR: lambda node, _: struct.pack("<QII", ATTR_SECONDS, 0, 0) + self.attributes(node),
            Op.READLINK: lambda node, _: os.fsencode(os.readlink(self.paths[node])),
            Op.OPEN: lambda *_: bytes(16),
            Op.READ: self.read,
            Op.STATFS: self.statfs,
            Op.OPENDIR: lambda *_: bytes(16),
            Op.READDIR: self.readdir,
            Op.RELEASE: lambda *_: b"",
            Op.RELEASEDIR: lambda *_: b"",
            Op.FLUSH: lambda *_: b"",
        }

    def serve(self, device: int) -> None:
        """Answer until the mount is gone."""
        while True:
            try:
                asked = os.read(device, 2**20)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):  # the one who asked went away
                    continue
                if error.errno == errno.ENODEV:
                    return
                raise
            length, opcode, unique, node = struct.unpack_from("<IIQQ", asked)
            if opcode in UNANSWERED:
                continue
            code, answer = 0, b""
            try:
                answer = self.answer(opcode, node, asked[40:length])
            except OSError as error:
                code = error.errno or errno.EIO
            with suppress(FileNotFoundError):  # the one who asked went away
                os.write(device, struct.pack("<IiQ", 16 + len(answer), -code, unique) + answer)

    def answer(self, opcode: int, node: int, asked: bytes) -> bytes:
        name = Op(opcode).name if opcode in Op.__members__.values() else str(opcode)
        writes = opcode in WRITES
        if opcode == Op.OPEN and struct.unpack_from("<I", asked)[0] & os.O_ACCMODE != os.O_RDONLY:
            name, writes = OPEN_TO_WRITE, True
        about = self.paths[node].removeprefix(self.paths[ROOT]) if node in self.paths else ""
        os.write(self.log, f"{name} {about or '/'}\n".encode("utf-8", "surrogateescape"))
        if writes:
            raise PermissionError(errno.EPERM, name)
        if opcode not in self.answers:
            raise OSError(errno.ENOSYS, name)
        return self.answers[opcode](node, asked)

    def attributes(self, node: int) -> bytes:
        seen = os.lstat(self.paths[node])
        blocks, seconds = -(-seen.st_size // 512), int(seen.st_mtime)
        links = 1 if stat.S_ISREG(seen.st_mode) else 2
        numbers = (node, seen.st_size, blocks, seconds, seconds, seconds)
        return struct.pack("<6Q10I", *numbers, 0, 0, 0, seen.st_mode, links, seen.st_uid, seen.st_gid, 0, 4096, 0)

    def init(self, node: int, asked: bytes) -> bytes:
        return struct.pack("<4I2H2I", 7, 31, 2**20, 0, 16, 12, 2**17, 1).ljust(64, b"\0")

    def lookup(self, node: int, asked: bytes) -> bytes:
        path = os.path.join(self.paths[node], os.fsdecode(asked.split(b"\0")[0]))
        os.lstat(path)  # raises what there is to say
        child = self.nodes.setdefault(path, len(self.nodes) + 1)
        self.paths[child] = path
        return struct.pack("<4Q2I", child, 0, ATTR_SECONDS, ATTR_SECONDS, 0, 0) + self.attributes(child)

    def read(self, node: int, asked: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", asked)
        with open(self.paths[node], "rb") as file:
            file.seek(offset)
            return file.read(size)

    def statfs(self, node: int, asked: bytes) -> bytes:
        blocks, files, bsize, frsize, used = self.size
        free = blocks - used
        return struct.pack("<5Q3I28x", blocks, free, free, files, files - used, bsize, 255, frsize)

    def readdir(self, node: int, asked: bytes) -> bytes:
        _, start, room = struct.unpack_from("<QQI", asked)
        rows = b""
        for number, name in enumerate(sorted(os.listdir(os.fsencode(self.paths[node])))[start:], start + 1):
            row = struct.pack("<QQII", 2**32, number, len(name), 0) + name
            row += bytes(-len(row) % 8)
            if len(rows) + len(row) > room:
                break
            rows += row
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("--fstype", default="fuse", help="fuse, fuse.NAME or fuseblk")
    parser.add_argument("--source", default="mountpoint-s3")
    parser.add_argument("--like", choices=LIKE, default="mountpoint-s3", help="whose answer to statfs to give")
    parser.add_argument("--private", action="store_true", help="answer another user only, so that root is denied")
    parser.add_argument("--log", type=Path, required=True, help="gets a line for every question")
    options = parser.parse_args()
    device = os.open("/dev/fuse", os.O_RDWR)
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    access = "user_id=65534,group_id=65534" if options.private else "user_id=0,group_id=0,allow_other"
    data = f"fd={device},rootmode=40000,default_permissions,{access}"
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [os.fsencode(each) for each in (options.source, options.mountpoint, options.fstype)]
    if libc.mount(*arguments, ctypes.c_ulong(MS_NOSUID | MS_NODEV), data.encode()):
        raise SystemExit(f"mount: {os.strerror(ctypes.get_errno())}")
    Server(os.path.realpath(options.directory), LIKE[options.like], log).serve(device)


if __name__ == "__main__":
    main()
