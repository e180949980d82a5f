"""Files of results: whole under their name, or not there."""

from pathlib import Path

from tusz_cache import Durability, ssd

_QUICK = Durability("none")  # there are thousands, and all can be made again


def publish(path: Path, content: str | bytes) -> None:
    """Put a file under its name when it is whole. Its folder is made. Raises TargetError, NoSpace."""
    ssd.make_directories([path.parent])
    ssd.write_file(ssd.Target(path.parent, _QUICK), path, content.encode() if isinstance(content, str) else content)
