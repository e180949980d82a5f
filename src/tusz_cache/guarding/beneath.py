"""Opening what lies beneath a directory, and asking the kernel where it lies.

The standard library only, and little of it: a process that is started for each check imports this.
"""

import ctypes
import errno
import os
import stat
import sys

# macOS has no O_PATH; NONBLOCK, because to open a pipe must not wait for its other end
O_PATH: int = getattr(os, "O_PATH", os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
_OPENAT2 = 437  # the system call's number on every architecture
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08  # NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_EMPTY_PATH = 0x1000
MNT_ID, MNT_ID_UNIQUE = 0x1000, 0x4000  # masks of statx

if sys.platform == "win32":
    _libc = ctypes.WinDLL("kernel32")
else:
    _libc = ctypes.CDLL(None, use_errno=True)
    _syscall = _libc.syscall
    _syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    _syscall.restype = ctypes.c_long

StatfsRow = tuple[int | None, int, int, int, int, int, int]  # see values.Statfs


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_hows: dict[int, _OpenHow] = {}  # by flags; the kernel only reads them


def _openat2(directory: int, key: bytes, flags: int) -> int:
    if (how := _hows.get(flags)) is None:
        how = _hows[flags] = _OpenHow(flags, 0, _RESOLVE)
    while (fd := _syscall(_OPENAT2, directory, key, ctypes.byref(how), 24)) < 0:
        if (number := ctypes.get_errno()) != errno.EINTR:
            raise OSError(number, os.strerror(number), os.fsdecode(key))
    return int(fd)


def mount_id(fd: int, mask: int = MNT_ID) -> int | None:
    """Return the id of the mount that `fd` lies on, or None if the kernel does not say."""
    buffer = ctypes.create_string_buffer(256)
    if hasattr(_libc, "statx") and not _libc.statx(fd, b"", _EMPTY_PATH, mask, buffer):
        said = int.from_bytes(buffer.raw[0:4], sys.byteorder)
        if said & mask:
            return int.from_bytes(buffer.raw[144:152], sys.byteorder)
    if mask == MNT_ID:
        try:
            with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes 5 ms
                return next((int(line.split()[1]) for line in file if line.startswith("mnt_id:")), None)
        except OSError:
            pass  # no /proc, or one without it: gVisor
    return None


def statfs(fd: int) -> StatfsRow:
    """Return what fstatfs says of `fd`."""
    said, number = os.fstatvfs(fd), None
    buffer = ctypes.create_string_buffer(4096)
    if sys.platform == "linux" and not _libc.fstatfs(fd, buffer):
        number = ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
    return number, said.f_bsize, said.f_frsize, said.f_blocks, said.f_bfree, said.f_files, said.f_ffree


def darwin_answer(fd: int) -> tuple[str, str, bool] | None:
    """Return what macOS says of `fd`: type, source, whether it is local. Not tried on a Mac so far."""
    if sys.platform != "darwin":
        return None
    buffer = ctypes.create_string_buffer(4096)
    call = getattr(_libc, "fstatfs$INODE64", None) or _libc.fstatfs
    if call(fd, buffer):
        raise OSError(ctypes.get_errno(), "fstatfs")
    flags = int.from_bytes(buffer.raw[64:68], sys.byteorder)
    kind, source = (buffer.raw[start:stop].partition(b"\0")[0].decode() for start, stop in ((72, 88), (1112, 2136)))
    return kind, source, bool(flags & 0x1000)


def windows_answer(path: str) -> tuple[int, bool] | None:
    """Return the drive's type and whether it is remote, None where this is not Windows. Not tried there so far."""
    if sys.platform != "win32":
        return None
    _libc.CreateFileW.restype = ctypes.c_void_p
    # FILE_FLAG_BACKUP_SEMANTICS: directories too
    handle = ctypes.c_void_p(_libc.CreateFileW(path, 0, 7, None, 3, 0x02000000, None))
    buffer = ctypes.create_string_buffer(256)
    remote = bool(_libc.GetFileInformationByHandleEx(handle, 13, buffer, len(buffer)))  # FileRemoteProtocolInfo
    _libc.CloseHandle(handle)
    return _libc.GetDriveTypeW(os.path.splitdrive(path)[0] + "\\"), remote


class Root:
    """An opened directory. What lies beneath it is opened without following a link or crossing into another mount."""

    def __init__(self, fd: int, like: "Root | None" = None) -> None:
        """like: a directory above it, whose ways are kept."""
        self.fd = fd
        self.method: str = like.method if like else _method(fd)
        self.place: int | None = like.place if like else _place(fd)

    def open(self, key: str, flags: int) -> int:
        """Return a descriptor of `key`. Raises OSError; its errno is ELOOP or EXDEV if the key leads elsewhere."""
        flags |= os.O_CLOEXEC
        if self.method == "openat2":
            return _openat2(self.fd, key.encode("utf-8", "surrogateescape"), flags)
        *folders, name = [step for step in key.split("/") if step] or ["."]
        at = self.fd
        for step, how in [*((folder, O_PATH) for folder in folders), (name, flags)]:
            try:
                if step == "..":
                    raise _elsewhere(errno.EXDEV, key)
                below = os.open(step, how | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            finally:
                if at != self.fd:
                    os.close(at)
            at = below
            try:
                self._check(at, key)
            except OSError:
                os.close(at)
                raise
        return at

    def _check(self, fd: int, key: str) -> None:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise _elsewhere(errno.ELOOP, key)
        if _place(fd) != self.place:
            raise _elsewhere(errno.EXDEV, key)


def _method(fd: int) -> str:
    if sys.platform != "linux":
        return "walk"
    try:
        os.close(_openat2(fd, b".", O_PATH | os.O_CLOEXEC))
    except OSError:  # ENOSYS in gVisor, EPERM in an old sandbox
        return "walk"
    return "openat2"


def _place(fd: int) -> int | None:
    """Return what all files of one mount have in common, None if nothing tells.

    Not st_dev: subvolumes of one mount differ in it, and so do files and directories of an overlay. Where gVisor knows
    no mount ids, mountinfo still names the mounts below a directory.
    """
    return mount_id(fd) if sys.platform == "linux" else os.fstat(fd).st_dev


def _elsewhere(number: int, key: str) -> OSError:
    return OSError(number, os.strerror(number), key)
