"""Configurations as files: read strictly, overridden from the command line, told again in full."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tusz_train.config import Config
from tusz_train.errors import ConfigError
from tusz_train.plain_yaml import parse_yaml, to_yaml
from tusz_train.section import Section

_HINT = "docs/configuration.md lists every key"


def load_config(path: Path, overrides: Sequence[str] = (), *, text: str | None = None) -> Config:
    """Return the configuration in a YAML file. overrides: `key.sub=value` each, the value in YAML.

    text: what the file holds, where it lies on another machine.
    Raises ConfigError, which names the file, the key, what is wrong, and the key that may have been meant.
    """
    try:
        text = path.read_text(encoding="utf-8") if text is None else text
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="give a YAML file, as in configs/local") from error
    read = parse_yaml(text, str(path))
    if not isinstance(read, dict):
        raise ConfigError(f"{path} holds no sections", hint="begin with run:, data: and loop:, as in configs/local")
    return config_of(read, str(path), overrides)


def config_of(values: dict[str, Any], name: str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that plain values make, such as a checkpoint's. name: where they are from.

    Raises ConfigError as `load_config` does.
    """
    given = [_override(text) for text in overrides]
    for key, value in given:
        _put(values, key, value)
    return _checked(values, name, [key for key, _ in given])


def as_yaml(config: Config) -> str:
    """Return the whole configuration as YAML, which reads back as the same."""
    return to_yaml(config.model_dump(mode="json"))


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text} is not key.sub=value", hint="e.g. --set data.batch_size=32")
    return key, parse_yaml(value, f"--set {text}")


def _put(into: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key. A section that is absent or null comes to be."""
    *sections, last = key.split(".")
    for section in sections:
        inner = into.get(section)
        if not isinstance(inner, dict | None):
            raise ConfigError(f"--set {key}: {section} is no section", hint=_HINT)
        into[section] = deeper = dict(inner or {})  # a copy: an alias may stand elsewhere too
        into = deeper
    into[last] = value


def _checked(read: dict[str, Any], name: str, given: Sequence[str]) -> Config:
    try:
        return Config.model_validate(read)
    except ValidationError as error:
        mistakes = sorted(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
    lines = [f"{_source(key, name, given)}: {what}" for mistake in mistakes for key, what in _told(mistake)]
    raise ConfigError("\n       ".join(lines), hint=_HINT)


def _source(key: str, name: str, given: Sequence[str]) -> str:
    """Return where a key was set: in the file, on the command line, or, for a section, in both."""
    if any(f"{key}.".startswith(f"{one}.") for one in given):
        return "--set"
    return f"{name} with --set" if any(not key or one.startswith(f"{key}.") for one in given) else name


def _told(mistake: ErrorDetails) -> Iterator[tuple[str, str]]:
    """Yield the key of a mistake, and a line for a person: the key, what is wrong, what may have been meant."""
    key, value = ".".join(str(part) for part in mistake["loc"]), mistake["input"]
    if mistake["type"] == "extra_forbidden":
        for unknown in [f"{key}.{inner}" for inner in value] if isinstance(value, dict) and value else [key]:
            near = nearest(unknown)
            yield unknown, f"{unknown} is no key" + (f"; did you mean {near}?" if near else "")
    elif mistake["type"] == "missing":
        yield key, f"{key} is missing"
    else:
        reason = mistake["msg"].removeprefix("Value error, ").replace("Input should", "should")
        shown = f", but is {value!r}" if value is None or isinstance(value, str | int | float) else ""
        yield key, f"{key}: {reason}{shown}" if key else f"{reason}{shown}"


def nearest(key: str) -> str | None:
    """Return the valid key that an unknown one most likely means: its name in another section, or one spelt alike."""
    known = list(keys(Config))
    last = key.rpartition(".")[2]
    if same := [one for one in known if one.rpartition(".")[2] == last]:
        return difflib.get_close_matches(key, same, 1, 0.0)[0]
    return next(iter(difflib.get_close_matches(key, known, 1)), None)


def keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a section and of those in it."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        if inner := section_of(field.annotation):
            yield from keys(inner, f"{prefix}{name}.")


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds, if it holds one or null."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
