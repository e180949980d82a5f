"""What macOS and Windows say of a directory. They have no mountinfo, but an answer of their own."""

from tusz_cache.guarding.findings import Finding, found
from tusz_cache.guarding.redact import redact
from tusz_cache.guarding.values import DarwinAnswer, Ruling, WindowsAnswer

_DRIVES = {  # of GetDriveTypeW
    3: (Ruling.ACCEPT_LOCAL_BLOCK, "on a fixed drive"),
    4: (Ruling.REFUSE_NETWORK, "on another machine"),
    6: (Ruling.ACCEPT_MEMORY, "on a RAM disk"),
}


def judge_darwin(path: str, answer: DarwinAnswer) -> Finding:
    """Return what statfs comes to. A FUSE file system may call itself local, so its type must be a disk's too."""
    label = f"({answer.fstype} {redact(answer.source)})"
    if not answer.local:
        return found(Ruling.REFUSE_NETWORK, "mount record", "statfs", f"{path} is on a network file system {label}")
    if answer.fstype in {"apfs", "hfs"}:
        return found(Ruling.ACCEPT_LOCAL_BLOCK, "mount record", "statfs", f"{path} is on local disk {label}")
    reason = f"{path} is on a type of file system that is not known to be a disk's {label}"
    return found(Ruling.REFUSE_UNKNOWN, "mount record", "statfs", reason)


def judge_windows(path: str, real_path: str, answer: WindowsAnswer) -> Finding:
    """Return what a drive's type comes to. A fixed drive may still lead to another machine by a link."""
    if answer.remote or _is_unc(path) or _is_unc(real_path):
        ruling, what = _DRIVES[4]
    else:
        ruling, what = _DRIVES.get(answer.drive_type, (Ruling.REFUSE_UNKNOWN, "on no fixed drive"))
    detail = f"drive type {answer.drive_type}, {'remote' if answer.remote else 'not remote'}"
    return found(ruling, "mount record", "GetDriveTypeW", f"{path} is {what}", detail)


def _is_unc(path: str) -> bool:
    r"""Return whether a path names another machine: \\host\share, \\?\UNC\host\share, but not \\?\C:\."""
    plain = path.replace("/", "\\")
    rest = plain.removeprefix("\\\\?\\")
    return rest.upper().startswith("UNC\\") if rest != plain else plain.startswith("\\\\")
