"""Write docs/configuration.md from the code: `python -m tests.support.config_reference docs/configuration.md`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tusz_train.config import Config
from tusz_train.config_file import load_config, section_of

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs").glob("*/*.yaml"))
HEAD = """\
<!-- Written by tests/support/config_reference.py from the code. Do not edit: `make docs` writes it anew. -->

# Configuration

Every key of a configuration file. How files are read, and what the sections are for: [training](training.md).
"""


def render() -> str:
    """Return the whole page."""
    sections = (f"{_section(name, kind)}\n" for name, kind in sections_of(Config))
    return "\n".join((HEAD, *sections, _shipped()))


def sections_of(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the dotted name and the type of each section."""
    for name, field in kind.model_fields.items():
        if inner := section_of(field.annotation):
            yield f"{prefix}{name}", inner
            yield from sections_of(inner, f"{prefix}{name}.")


def _section(name: str, kind: type[BaseModel]) -> str:
    rows = [
        f"| `{name}.{key}` | {_type(key, kind)} | {_default(field)} | {field.description} |"
        for key, field in kind.model_fields.items()
        if not section_of(field.annotation)
    ]
    inner = [f"`{name}.{key}`" for key, field in kind.model_fields.items() if section_of(field.annotation)]
    more = [f"\nHolds {' and '.join(inner)}."] if inner else []
    text = (kind.__doc__ or "").strip()
    return "\n".join(
        [f"## {name}\n\n{text}\n", "| key | type | default | meaning |", "|---|---|---|---|", *rows, *more]
    )


def _type(key: str, kind: type[BaseModel]) -> str:
    """Return what a key takes, in the words of YAML, from its JSON schema."""
    schema = kind.model_json_schema()
    return _words(schema["properties"][key], schema.get("$defs", {}))


def _words(schema: dict[str, Any], known: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_words(one, known) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "$ref" in schema:
        inner = known[schema["$ref"].rpartition("/")[2]]
        return "{" + ", ".join(inner["properties"]) + "}"
    if schema["type"] == "array":
        items = schema.get("items") or schema["prefixItems"][0]
        return f"list of {_words(items, known)}"
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            *(("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<=")),
            ("multipleOf", "multiple of"),
        )
        if key in schema
    ]
    return ", ".join([{"string": "text", "boolean": "true, false"}.get(schema["type"], schema["type"]), *bounds])


def _default(field: Any) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "needed"
    return f"`{json.dumps(default)}`"


def _shipped() -> str:
    """Return a table of what the shipped files set, a column each."""
    columns = {path.relative_to(ROOT / "configs").as_posix(): _flat(path) for path in SHIPPED}
    defaults = {
        f"{name}.{key}": field.default for name, kind in sections_of(Config) for key, field in kind.model_fields.items()
    }
    rows = [
        f"| `{key}` | " + " | ".join(f"`{json.dumps(flat.get(key))}`" for flat in columns.values()) + " |"
        for key in defaults
        if any(flat[key] != defaults[key] for flat in columns.values() if key in flat)
    ]
    head = ["| key | " + " | ".join(f"`{name}`" for name in columns) + " |", "|---|" + "---|" * len(columns)]
    return "\n".join(
        ["## The files under configs/\n", "What any of them sets otherwise than by default:\n", *head, *rows, ""]
    )


def _flat(path: Path) -> dict[str, Any]:
    def walk(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        for key, inner in value.items():
            if isinstance(inner, BaseModel):
                yield from walk(f"{prefix}{key}.", dict(inner))
            else:
                yield f"{prefix}{key}", inner

    return dict(walk("", dict(load_config(path))))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
