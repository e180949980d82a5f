"""Files of results: whole under their name, or not there."""

from pathlib import Path


def publish(path: Path, content: str | bytes) -> None:
    """Write a file under a draft's name first, then give it its own. Its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content.encode() if isinstance(content, str) else content)
    draft.replace(path)
