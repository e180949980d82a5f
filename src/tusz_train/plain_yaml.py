"""YAML 1.2 of text, numbers, true, false, null, lists and mappings, and nothing else.

PyYAML follows YAML 1.1, where `off` is false, `1e-4` a text and `1:30` ninety, and of a key that stands twice it takes
the last. All of that turns a slip into another run.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import yaml

from tusz_train.errors import ConfigError

_TAG = "tag:yaml.org,2002:"
_PLAIN: dict[str, tuple[str, str, Callable[[str], Any]]] = {  # what it looks like, how it may begin, its value
    "null": ("~|null|Null|NULL|", "~nN", lambda _text: None),
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": ("[-+]?[0-9]+", "-+0123456789", int),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789", float),
}


class _Loader(yaml.SafeLoader):
    """Builds the values named above; refuses other tags, and a key that stands twice."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own, typed there
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def plain(self, node: yaml.ScalarNode) -> Any:
        """Return the value of a word or number."""
        return _PLAIN[node.tag.removeprefix(_TAG)][2](node.value)

    def mapping(self, node: yaml.MappingNode) -> Iterator[dict[str, Any]]:
        """Yield the mapping, then fill it."""
        made: dict[str, Any] = {}
        yield made
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in made:
                reason = f"{key} stands twice" if isinstance(key, str) else f"{key!r} is no key"
                raise yaml.constructor.ConstructorError(problem=reason, problem_mark=key_node.start_mark)
            made[key] = self.construct_object(value_node, deep=True)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that either version of YAML would take for something else."""


for _name, (_pattern, _first, _) in _PLAIN.items():
    _begins = [*_first, ""] if _name == "null" else list(_first)
    for _end in (_Loader, _Dumper):
        _end.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _begins)
    _Loader.yaml_constructors[_TAG + _name] = _Loader.plain
_Loader.yaml_constructors |= {
    f"{_TAG}str": yaml.SafeLoader.construct_yaml_str,
    f"{_TAG}seq": yaml.SafeLoader.construct_yaml_seq,
    f"{_TAG}map": _Loader.mapping,
    None: yaml.SafeLoader.construct_undefined,
}


def parse_yaml(text: str, name: str) -> Any:
    """Return what a YAML text says. name: of the text, for messages. Raises ConfigError, which tells the place."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - builds plain values only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigError(
            f"{name} is no plain YAML: {what}{where}", hint="indent by spaces, and name each key once"
        ) from error


def to_yaml(value: Any) -> str:
    """Return plain values as YAML, keys in their order; `parse_yaml` reads back the same."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
