"""Write docs/reference.md from the code: `python -m tests.support.reference docs/reference.md`.

Everything comes from parsers, docstrings, field comments and values made with the real functions.
Signatures are read from the source text and not by `inspect`, so that every version of Python writes the same file.
"""

import argparse
import ast
import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import tusz_cache
import tusz_train
from tusz_cache import errors, holdings, plan_file, seal, sealed
from tusz_cache.__main__ import VERBS
from tusz_cache.copying import journal
from tusz_cache.costing.assumptions import CostAssumptions
from tusz_cache.costing.model import estimate_cost
from tusz_cache.costing.prices import read_prices
from tusz_cache.doctor_report import DoctorReport
from tusz_cache.entry import META, Entry, Proof
from tusz_cache.errors import EXIT_CODES, BadResponse
from tusz_cache.guarding.stages import refused_url
from tusz_cache.guarding.values import Evidence, Ruling, Verdict
from tusz_cache.manifest import Manifest, SplitCount
from tusz_cache.manifest_file import digest, to_bytes
from tusz_cache.measuring import Speed
from tusz_cache.packing.index import INDEX, Index, PackedRecording, Shard, shard_files
from tusz_cache.packing.index import to_bytes as index_to_bytes
from tusz_cache.packing.report import PackedSplit, PackReport
from tusz_cache.plan import Filters, Plan
from tusz_cache.report import Failure, SyncReport
from tusz_cache.verify_report import VerifyReport
from tusz_train import errors as train_errors
from tusz_train.__main__ import VERBS as TRAIN_VERBS
from tusz_train.curves import Predicted, score_predictions
from tusz_train.events import Event, RecordingEvents
from tusz_train.scoring import score_recordings

HEAD = """\
<!-- Written by tests/support/reference.py from the code. Do not edit: `make docs` writes it anew. -->

# Reference

Commands, exit codes, errors, JSON, files on disk, Python. Why things are as they are: [design](design.md).
"""


def render() -> str:
    """Return the whole reference."""
    sections = (HEAD, *_commands(), _exit_codes(), _errors(), *_json(), *_disk(), *_python())
    return "\n".join(section.rstrip("\n") + "\n" for section in sections)


# commands


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, by how it is called: `python -m tusz_cache.sync`."""
    modules = [f"tusz_cache.{verb}" for verb in VERBS] + [f"tusz_train.{verb}" for verb in TRAIN_VERBS]
    return {made.prog: made for module in modules for made in [importlib.import_module(module).parser()]}


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the long and short options of a command, `--help` too."""
    return [name for action in parser._actions for name in action.option_strings]


def _commands() -> Iterator[str]:
    yield """## Commands

`tusz-cache VERB` does the same as `python -m tusz_cache.VERB`, `tusz-train VERB` as `python -m tusz_train VERB`.
"""
    for parser in parsers().values():
        positional = [action for action in parser._actions if not action.option_strings]
        names = " ".join(f"[{_metavar(a)}]" if a.nargs == "?" else _metavar(a) for a in positional)
        yield f"### `{parser.prog} {names}`\n\n{_plain(parser.description)}\n"
        yield _table(("argument", "meaning"), ((f"`{_metavar(a)}`", _plain(a.help)) for a in positional))
        for group in parser._action_groups:
            actions = [action for action in group._group_actions if action.option_strings]
            if actions:
                title = "options" if group.title in {"options", "optional arguments"} else group.title
                rows = ((f"`{_spelled(action)}`", _plain(action.help)) for action in actions)
                yield _table((str(title), "meaning"), rows)


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return _plain(str(action.metavar or action.dest))


def _spelled(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_metavar(action)}"
    return ", ".join(name + value for name in action.option_strings)


def _plain(text: str | None) -> str:
    return (text or "").replace("%%", "%")


def _exit_codes() -> str:
    rows = ((str(code), meaning) for code, meaning in EXIT_CODES.items())
    return "## Exit codes\n\nThe same for every command.\n\n" + _table(("code", "meaning"), rows)


def _errors() -> str:
    return f"""## Errors

Everything raised on purpose derives from `tusz_cache.CacheError`, says in `.hint` what to do next, and has an
`.exit_code`; `.temporary` is true where the same call may succeed later. The classes are in `tusz_cache.errors`.

```text
{_tree(errors)}
```

Training adds, in `tusz_train.errors`:

```text
{_tree(train_errors)}
```
"""


def _tree(module: ModuleType) -> str:
    return (module.__doc__ or "").partition("\n\n")[2].strip("\n")


# JSON

_PROOF = Proof(
    crc64nvme=0xAE8B14860A799888,
    verified="source-crc",
    mtime_ns=1754550000000000000,
    part_size=16777216,
    part_crcs=(1, 2),
)
_ENTRY = Entry("train/aaaaaaac_s001_t000_windows.npz", 20_000_000, "6f1ed002ab5595859014ebf0951522d9-2", _PROOF)
_SPLITS = {"train": SplitCount(1, 1, 20_000_000)}


def _json() -> Iterator[str]:
    yield "## JSON\n\nWith `--json` a command prints one object on stdout and nothing else there. By example:\n"
    failure = Failure.of("dev/x.npz", BadResponse("'dev/x.npz': the body ended 7 bytes early", hint="run again"))
    synced = SyncReport(
        source="s3://bucket/tusz",
        target="/ssd/tusz",
        plan_id="0123456789abcdef",
        files_total=2,
        files_copied=1,
        bytes_total=20_000_007,
        bytes_copied=20_000_000,
        seconds=0.5,
        splits=_SPLITS,
        verification={"source-crc": 1},
        failures=(failure,),
        retries=5,
    )
    yield _sample("`sync`", synced.as_dict())
    plan = Plan(copy=Manifest.of([Entry(_ENTRY.key, _ENTRY.size, _ENTRY.etag)]), plan_id="0123456789abcdef")
    yield _sample("`sync --dry-run`", {"dry_run": True, **plan.as_dict(delete=False)})
    planned = {
        "planned": True,
        **plan.as_dict(delete=False),
        "shards": {"2": [{"files": 1, "bytes": _ENTRY.size}, {"files": 0, "bytes": 0}]},
    }
    yield _sample("`sync --plan`; `shards` for 2, 4, 8, 16 and 32 of them", planned)
    verified = VerifyReport(
        target="/ssd/tusz",
        level="full",
        files=1,
        bytes=20_000_000,
        seconds=0.01,
        missing=("dev/x.npz",),
        source="s3://bucket/tusz",
        compared=True,
        expected={"train": (1, 1), "dev": (1, 0)},
    )
    yield _sample("`verify`", verified.as_dict())
    yield _sample("`guard`", refused_url("s3://bucket/tusz").as_dict())
    yield _sample("`doctor`", _examined().as_dict())
    packed = {"train": PackedSplit(1, 72, 72_000_000, 15_200_000, 0, ("train/manifest.json",))}
    yield _sample("`pack`", PackReport(store="/ssd/packed", dtype="float32", splits=packed, packed=1).as_dict())
    yield _sample("`cost`, with one of its ways, prices and assumptions", _costs())
    yield _sample("`score`", _scored())
    yield _sample("`CurveReport.as_json()`, with one of its points", _curves())
    refused = {"error": "the source lists no objects at all", "kind": "EmptyListing", "hint": "…", "exit_code": 5}
    yield _sample("any command that ends with an error", refused)


def _examined() -> DoctorReport:
    seen = Evidence("mount record", "/proc/self/mountinfo", "accept", "mount 27 at /ssd: type ext4")
    verdict = Verdict(
        path="/ssd/tusz",
        real_path="/ssd/tusz",
        ruling=Ruling.REFUSE_NO_SEAL,
        reason="/ssd/tusz has no seal: it was never completed, or a sync is under way or was interrupted",
        hint="…",
        evidence=(seen,),
    )
    return DoctorReport(
        verdict=verdict,
        state="interrupted",
        next_step="python -m tusz_cache.sync SOURCE /ssd/tusz",
        free_bytes=800_000_000_000,
        splits=_SPLITS,
        journal=(1, 1),
        speeds=(Speed("sequential", 2_097_152, 10, 20_000_000, 0.01, 0.001, evicted=True),),
    )


def _costs() -> dict[str, Any]:
    told = estimate_cost(CostAssumptions(), read_prices(), today=date(2026, 11, 24)).as_dict()
    kept = {"ways": "volume-packed", "prices": "modal_gpu", "assumptions": "gpu_rate"}
    return told | {part: {name: told[part][name]} for part, name in kept.items()}


def _scored() -> dict[str, Any]:
    reference = RecordingEvents("aaaaaaac_s001_t000", 3600.0, (Event(100.0, 160.0),))
    hypothesis = RecordingEvents("aaaaaaac_s001_t000", 3600.0, (Event(120.0, 150.0), Event(500.0, 520.0)))
    return score_recordings([(reference, hypothesis)]).as_dict()


def _curves() -> dict[str, Any]:
    reference = RecordingEvents("aaaaaaac_s001_t000", 3600.0, (Event(100.0, 160.0),))
    p_T = np.zeros(3600, np.float32)
    p_T[120:150], p_T[500:520] = 0.9, 0.6
    found = score_predictions([Predicted(reference, p_T, 1.0)]).as_dict()
    return found | {"points": found["points"][40:41]}


def _sample(title: str, value: object) -> str:
    return f"### {title}\n\n```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```\n"


# disk


def _disk() -> Iterator[str]:
    rows = [
        ("seal.json", "the statement that the cache is whole; gone while a run changes anything"),
        ("manifest.jsonl", "what the cache holds, one file a line, under the seal by its SHA-256"),
        ("leftovers.jsonl", "files that the tool wrote and the source no longer has, in the manifest's form"),
        ("repair.json", "the seal of a cache that is being repaired, set aside until all is whole again"),
        ("journal", "what an unfinished run has done; gone after sealing"),
        ("plan.jsonl", "what shards copy together: what the source lists, filters, part size; gone after sealing"),
        ("journal-3-of-16", "what the third of sixteen shards has done; gone after sealing"),
        ("lock-3-of-16", "held by that shard, which has a share of `lock`, too"),
        ("partial/", "files that are not whole yet, named by key, size and version"),
        ("trash/", "files that `--delete` removed, until the seal"),
        ("pack.json", "in a packed store: what is packed there, which tells a run that goes on from another one"),
        ("lock", "held by the one run that may write; says which"),
    ]
    expected = {sealed.SEAL, sealed.MANIFEST, sealed.REPAIR, holdings.LEFTOVERS, journal.NAME, sealed.PACKING}
    expected |= {plan_file.NAME}
    assert expected <= {name for name, _ in rows}, "a file was renamed: describe it here"
    yield f"## Files\n\nIn `TARGET/{META}/`, and nowhere else in the mirrored tree:\n"
    yield _table(("file", "meaning"), ((f"`{name}`", meaning) for name, meaning in rows))
    line = json.dumps(json.loads(to_bytes(Manifest.of([_ENTRY]))), indent=2)
    yield f"""### A line of `{sealed.MANIFEST}`

Entries are in the order of their keys' UTF-8 bytes. CRCs are as S3 writes them: base64 of eight big-endian bytes.
`parts` is absent where a file was fetched in one piece. Shown on several lines:

```json
{line}
```
"""
    made = seal.Seal(
        source="s3://bucket/tusz",
        manifest_sha256=digest(to_bytes(Manifest.of([_ENTRY]))),
        files=1,
        bytes=_ENTRY.size,
        splits=_SPLITS,
        verification={"source-crc": 1},
        created="2025-08-07T07:00:00+00:00",
        tusz_cache="0.1.0",
    )
    bare = Manifest.of([Entry(_ENTRY.key, _ENTRY.size, _ENTRY.etag)])
    stored = plan_file.StoredPlan.of(made.source, bare, 0, Filters(), 16777216)
    header, row = b"".join(plan_file.to_lines(stored)).splitlines()
    yield _sample(f"First line of `{plan_file.NAME}`", json.loads(header))
    yield _sample(f"Every other line of `{plan_file.NAME}`", json.loads(row))
    yield _sample(f"`{sealed.SEAL}`", json.loads(seal.to_bytes(made)))
    row = PackedRecording("aaaaaaac_s001_t000_windows.npz", 0, 0, 2, 1, "uint8", 1, 2)
    index = Index(
        split="train",
        dtype="float32",
        scale=None,
        max_error=0.0,
        cache_manifest_sha256=digest(to_bytes(Manifest.of([_ENTRY]))),
        shards=(Shard(*shard_files(0), row.blocks),),
        recordings=(row,),
    )
    yield _sample(f"`{INDEX}` of each split of a packed store", json.loads(index_to_bytes(index)))
    yield f"### `{journal.NAME}`\n\n{_fenced(inspect.cleandoc(journal.__doc__ or ''))}\n"


def _fenced(text: str) -> str:
    """Return a docstring with its indented lines as a code block."""
    before, _, rest = text.partition("\n    ")
    block = ("    " + rest).rstrip()
    return f"{before.rstrip()}\n\n```text\n{inspect.cleandoc(block)}\n```" if rest else before


# Python


def _python() -> Iterator[str]:
    for package in (tusz_cache, tusz_train):
        yield f"## Python: `{package.__name__}`\n\nIts public names.\n"
        yield from _public(package)


def _public(package: ModuleType) -> Iterator[str]:
    for name in package.__all__:
        thing = getattr(package, name)
        if not hasattr(thing, "__module__"):
            continue
        node = _definition(thing)
        if isinstance(node, ast.ClassDef):
            yield from _class(node, _source_lines(thing))
        else:
            assert isinstance(node, ast.FunctionDef)
            yield f"### `{name}`\n\n```python\n{_signature(node)}\n```\n\n{_doc(node)}\n"


def _source_lines(thing: object) -> list[str]:
    return Path(str(inspect.getsourcefile(thing))).read_text(encoding="utf-8").splitlines()  # type: ignore[arg-type]


def _definition(thing: type) -> ast.ClassDef | ast.FunctionDef:
    tree = ast.parse("\n".join(_source_lines(thing)))
    found = [node for node in tree.body if getattr(node, "name", None) == thing.__name__]
    assert isinstance(found[0], ast.ClassDef | ast.FunctionDef)
    return found[0]


def _class(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    yield f"### `{node.name}{f'({bases})' if bases else ''}`\n\n{_doc(node)}\n"
    fields = [child for child in node.body if isinstance(child, ast.AnnAssign) and ast.unparse(child.target) != "_"]
    if fields:
        constants = _constants(lines)
        rows = (
            (f"`{ast.unparse(one.target)}`", f"`{_type(one)}`", _default(one, constants), _comment(one, lines))
            for one in fields
        )
        yield _table(("field", "type", "default", "meaning"), rows)
    methods = [
        child
        for child in node.body
        if isinstance(child, ast.FunctionDef) and not child.name.startswith("_") and ast.get_docstring(child)
    ]
    if methods:
        yield _table(("member", "meaning"), ((f"`{_call(one)}`", _first_line(one)) for one in methods))


def _type(node: ast.AnnAssign) -> str:
    return ast.unparse(node.annotation).removeprefix("ClassVar[").removesuffix("]" if _is_classvar(node) else "")


def _is_classvar(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation).startswith("ClassVar[")


def _default(node: ast.AnnAssign, constants: dict[str, str]) -> str:
    value = node.value
    if value is None:
        return ""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        options = {keyword.arg: keyword.value for keyword in value.keywords}
        factory = options.get("default_factory")
        if factory is not None:
            return (
                f"`{ast.unparse(factory)}()`"
                if not isinstance(factory, ast.Lambda)
                else f"`{ast.unparse(factory.body)}`"
            )
        return f"`{ast.unparse(options['default'])}`" if "default" in options else ""
    if isinstance(value, ast.Name):
        return f"`{constants.get(value.id, value.id)}`"
    return f"`{ast.unparse(value)}`"


def _constants(lines: list[str]) -> dict[str, str]:
    """Return the constants of a module, as they are written."""
    body = ast.parse("\n".join(lines)).body
    simple = [node for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in simple}


def _comment(node: ast.AnnAssign, lines: list[str]) -> str:
    """Return the comment behind a field."""
    line = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset :].decode()
    return line.partition("#")[2].strip()


def _call(node: ast.FunctionDef) -> str:
    if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
        return node.name
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix("cls").removeprefix(", ")
    return f"{node.name}({arguments})"


def _signature(node: ast.FunctionDef) -> str:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    plain = len(positional) - len(arguments.defaults)
    parts = [_argument(one, arguments.defaults[i - plain] if i >= plain else None) for i, one in enumerate(positional)]
    if arguments.kwonlyargs:
        parts.append("*")
    parts += [_argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        parts.append("**" + ast.unparse(arguments.kwarg))
    inside = "".join(f"    {part},\n" for part in parts)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}(\n{inside}){returns}"


def _argument(node: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(node) + (f" = {ast.unparse(default)}" if default is not None else "")


def _doc(node: ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n\n")[0]


def _first_line(node: ast.FunctionDef) -> str:
    return _doc(node).partition("\n")[0]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def main(argv: list[str]) -> int:
    """Write the reference to the path that is named, or to stdout."""
    if argv:
        Path(argv[0]).write_text(render(), encoding="utf-8")
    else:
        print(render(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
