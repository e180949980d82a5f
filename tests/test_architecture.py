"""What the package's shape must be: imports go downwards, and each dangerous thing is done in one place."""

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tusz_cache
import tusz_train
from tests.support.running import environment
from tusz_cache import errors
from tusz_cache.__main__ import VERBS
from tusz_cache.errors import EXIT_CODES, CacheError
from tusz_train import errors as train_errors
from tusz_train.__main__ import VERBS as TRAIN_VERBS

PACKAGE = Path(tusz_cache.__file__).parent
LONGEST = 320  # lines of a module that can be read in one sitting
LONGER: dict[str, str] = {}  # module -> why it may be longer

# From the bottom up: a module imports only from those before it. Packages are ordered inside as well.
LAYERS: tuple[str | tuple[str, ...], ...] = (
    "lazy",
    # values and pure decisions
    "verbs",
    "errors",
    "units",
    "layout",
    "entry",
    "tusz",
    "tusz_windows",
    "tusz_index",
    "checksum",
    "durability",
    "version",
    "manifest",
    "manifest_file",
    "keys",
    "plan",
    "plan_file",
    "shard",
    "seal",
    "sealed",
    # the target
    "disk_errors",
    "ssd",
    "lock",
    # the source
    (
        "stores.base",
        "stores.answer",
        "stores.connection",
        "stores.schemes",
        "stores.foreign",
        "stores.generic",
        "stores.known",
        "stores.http",
        "stores.local",
        "stores.listing",
        "stores.signing",
        "stores.s3",
        "stores.opening",
        "stores",
    ),
    # may training read from there
    (
        "guarding.values",
        "guarding.kinds",
        "guarding.redact",
        "guarding.mountinfo",
        "guarding.arguments",
        "guarding.capacity",
        "guarding.findings",
        "guarding.answers",
        "guarding.block",
        "guarding.declarations",
        "guarding.ground",
        "guarding.overrides",
        "guarding.classify",
        "guarding.stages",
        "guarding.beneath",
        "guarding.hands",
        "guarding.reaching",
        "guarding.layered",
        "guarding.seeing",
        "guarding.stated",
        "guarding.identity",
        "guarding.files",
        "guarding.admitted",
        "guarding.guard",
        "guarding",
    ),
    # from one to the other
    (
        "copying",
        "copying.rate",
        "copying.journal",
        "copying.transfer",
        "copying.line",
        "copying.values",
        "copying.pieces",
        "copying.http",
        "copying.streams",
        "copying.lanes",
        "copying.rereading",
        "copying.opening",
        "copying.asking",
        "copying.crew",
        "copying.pool",
        "copying.worker",
        "copying.dispatch",
        "copying.committer",
        "copying.engine",
    ),
    "holdings",
    # the whole
    "settings",
    "progress",
    "report",
    "verify_report",
    "planning",
    "checking",
    "sealing",
    "comparing",
    "adopting",
    "repairing",
    "verifying",
    # from NPZ files to a store
    (
        "packing",
        "packing.header",
        "packing.zipped",
        "packing.npz",
        "packing.blocks",
        "packing.folding",
        "packing.index",
        "packing.rows",
        "packing.windows",
        "packing.packed",
        "packing.unpacked",
        "packing.store",
        "packing.manifests",
        "packing.growing",
        "packing.splitting",
        "packing.claims",
        "packing.survey",
        "packing.report",
        "packing.writer",
    ),
    "run",
    "sharding",
    "executing",
    "workflow",
    # what it costs
    ("costing", "costing.prices", "costing.assumptions", "costing.report", "costing.model"),
    # at Modal
    "modal_settings",
    "populating",
    "measuring",
    "doctor_report",
    "doctoring",
    # commands
    "cli",
    "verify",
    "guard",
    "pack",
    "sync",
    "doctor",
    "cost",
    ("synth.eeg", "synth.morphology", "synth.artefacts", "synth.plan", "synth.writing", "synth"),
    "demo",
    "__main__",
    "__init__",
)
ORDER = [name for layer in LAYERS for name in ((layer,) if isinstance(layer, str) else layer)]

# The second package: each module imports from those before it, and of tusz_cache only public names and what is SHARED.
TRAIN_ORDER = (
    "errors",
    "files",
    # what a run is told
    "section",
    "montage",
    "model.architecture",
    "config_data",
    "config",
    "plain_yaml",
    "config_file",
    "file_limit",
    "outputs",
    # models
    "model",
    "model.seizure_transformer",
    "model.registry",
    "model.published",
    "model.weight_decay",
    # data
    "data",
    "data.order",
    "data.draw",
    "data.limit",
    "data.sampler",
    "data.readahead",
    "data.dataset",
    "data.loader",
    "data.feed",
    "data.augment",
    # values and pure functions
    "events",
    "event_files",
    "pairing",
    "stitch",
    "szcore",
    "nedc",
    "ranking",
    # the whole
    "scoring",
    "curves",
    # whole recordings, and what a model reaches on them
    "schedule",
    "predict",
    "calibration",
    "strips",
    "origin",
    "evaluating",
    "history",
    "figures",
    "report_plots",
    "report_page",
    "report",
    # the training run
    "distributed",
    "chance",
    "checkpoint",
    "admission",
    "optimisation",
    "state",
    "validation",
    "sinks",
    "loop",
    "alone",
    "run_record",
    "resuming",
    "keeping",
    "train_report",
    # the whole
    "run",
    "evaluation_run",
    # commands
    "train",
    "score",
    "evaluate",
    "__main__",
    "__init__",
)
SHARED = {
    "lazy": "public names that are imported when they are used",
    "errors": "one tree of errors, with hints and exit codes",
    "cli": "options, output and exit codes that are the same for every command",
    "progress": "carries the wish to stop",
    "layout": "tables for people and notebooks",
    "ssd": "puts files under their names whole",
    "disk_errors": "what the operating system says of a target, as our errors",
    "lock": "one writer for each run",
    "verbs": "from a verb to its module",
    "guarding.stated": "reads the file of declared mounts",
    "manifest_file": "tells a cache without a seal from others",
}
TORCH = {  # modules of tusz_train that may import torch; scoring and configuration never do
    *(f"tusz_train.model.{name}" for name in ("seizure_transformer", "registry", "published", "weight_decay")),
    *(f"tusz_train.data.{name}" for name in ("sampler", "dataset", "loader", "feed", "augment")),
    *(f"tusz_train.{name}" for name in ("predict", "evaluation_run")),
    *(f"tusz_train.{name}" for name in ("chance", "checkpoint", "distributed", "keeping", "loop", "optimisation")),
    *(f"tusz_train.{name}" for name in ("run", "validation")),
}

UPWARD = {("copying.pool", "__init__"): "where the package lies, which its worker processes must find too"}


def name_of(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


PATHS = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TRAINING = Path(tusz_train.__file__).parent
TRAIN = {f"tusz_train.{name_of(path, TRAINING)}": path for path in sorted(TRAINING.rglob("*.py"))}
every_module = pytest.mark.parametrize("module", sorted(PATHS))


every_train_module = pytest.mark.parametrize("module", sorted(TRAIN))
of_both_packages = pytest.mark.parametrize("module", sorted(PATHS | TRAIN))


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((PATHS | TRAIN)[module].read_text(encoding="utf-8"))


def imported(module: str) -> Iterator[str]:
    """Yield what a module imports, in full: names of modules where they are modules."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("tusz_cache.") in PATHS or whole in TRAIN else str(node.module)


def own_imports(module: str) -> set[str]:
    """Return the modules of this package that `module` imports."""
    names = {name for name in imported(module) if name.partition(".")[0] == "tusz_cache"}
    return {name.partition(".")[2] or "__init__" for name in names}


def foreign_imports(module: str) -> set[str]:
    """Return the packages that `module` imports."""
    return {name.partition(".")[0] for name in imported(module)} - {"tusz_cache"}


def importers(*packages: str) -> set[str]:
    return {module for module in PATHS if foreign_imports(module) & set(packages)}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment(), timeout=120)


# direction


def test_every_module_has_its_place():
    """The order of layers names each module once, and none that is not there."""
    assert sorted(PATHS) == sorted(ORDER)


@every_module
def test_a_module_imports_only_from_below(module: str):
    """Each module can be understood knowing only those before it."""
    below = set(ORDER[: ORDER.index(module)]) | {to for name, to in UPWARD if name == module}

    assert set() == own_imports(module) - below


def test_exceptions_to_the_direction_are_needed():
    """An exception that nothing uses any more is taken out."""
    assert set() == {pair for pair in UPWARD if pair[1] not in own_imports(pair[0])}


def test_synthetic_data_stand_apart():
    """The maker of synthetic data knows the corpus and the errors, and nothing but the demo uses it."""
    synth = {module for module in PATHS if module.partition(".")[0] == "synth"}

    used = {name for module in synth for name in own_imports(module)} - synth
    assert used <= {"tusz", "errors"}
    assert {"demo"} == {module for module in PATHS if own_imports(module) & synth} - synth


# one place for each thing


def test_one_module_imports_fsspec():
    """fsspec is imported in one place, and its implementations and their SDKs nowhere."""
    assert {"stores.opening"} == importers("fsspec")
    assert set() == importers("s3fs", "gcsfs", "adlfs", "boto3", "botocore", "aiobotocore", "aiohttp")
    assert set() == importers("google", "azure", "sshfs", "asyncssh", "huggingface_hub")


def test_nothing_imports_what_the_package_does_not_need():
    """Neither torch nor a cloud's SDK nor anything of deploy or tests is imported."""
    assert set() == importers("torch", "modal", "distributed", "deploy", "tests", "tusz_train")


def test_every_import_is_a_declared_dependency():
    """What is imported at run time comes with Python or is in pyproject.toml."""
    declared = {"awscrt", "fsspec", "isal", "numpy", "orjson", "tqdm", "moto"}  # moto: extra "demo"

    found = {package for module in PATHS for package in foreign_imports(module)}
    assert found - set(sys.stdlib_module_names) <= declared


OS_WRITES = {
    *("write", "pwrite", "writev", "pwritev", "truncate", "ftruncate", "rename", "renames", "replace", "link"),
    *("unlink", "remove", "rmdir", "removedirs", "mkdir", "makedirs", "symlink", "chmod", "utime", "mkfifo"),
    *("posix_fallocate", "copy_file_range", "sendfile", "fsync", "fdatasync", "sync", "setxattr"),
}
PATH_WRITES = {
    *("write_bytes", "write_text", "unlink", "mkdir", "rmdir", "touch", "rename", "chmod"),
    *("symlink_to", "hardlink_to"),
}
WRITE_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"}
WRITERS = {
    "ssd": "the one place",
    "synth.writing": "makes caches that are no targets",
    "demo": "makes its own folder anew",
}
ALLOWED = {
    ("lock", "os.utime"): "refreshes the note's time through the descriptor that ssd opened",
    ("cli", "os.write"): "answers a signal on standard error, where print may not be called",
    ("stores.opening", "filesystem.mkdir"): "makes the demo's bucket",
}


def writes_of(module: str) -> Iterator[str]:
    """Yield the calls of a module that change files."""
    for node in ast.walk(tree_of(module)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        flags = {part.attr for argument in node.args for part in ast.walk(argument) if isinstance(part, ast.Attribute)}
        modes = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        modes += [k.value.value for k in node.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)]
        if (
            (owner == "os" and (name in OS_WRITES or (name == "open" and flags & WRITE_FLAGS)))
            or owner in {"shutil", "tempfile"}
            or (owner != "os" and name in PATH_WRITES)
            or (owner and name == "replace" and len(node.args) == 1 and not node.keywords)
            or (owner != "os" and name == "open" and any(set(mode) & set("wax+") and len(mode) < 4 for mode in modes))
        ):
            yield f"{owner}.{name}" if owner else name


@pytest.mark.parametrize("module", sorted(PATHS.keys() - WRITERS))
def test_only_one_module_writes_to_a_target(module: str):
    """Files are made, written, renamed, deleted and synced in ssd.py only, where the order is kept."""
    assert set() == {call for call in writes_of(module) if (module, call) not in ALLOWED}


def test_the_search_for_writes_finds_them():
    """The rule above sees the writes that are there: in ssd.py, and those that are allowed elsewhere."""
    found = set(writes_of("ssd"))

    assert {"os.open", "os.write", "os.pwrite", "os.ftruncate", "os.fsync", "os.fdatasync", "shutil.rmtree"} <= found
    assert {"partial.replace", "path.unlink", "draft.open", "directory.mkdir"} <= found
    assert set() == {pair for pair in ALLOWED if pair[1] not in set(writes_of(pair[0]))}


def test_system_calls_are_made_in_one_place():
    """Only ssd.py and, for reading, guarding/beneath.py reach for the C library."""
    assert {"ssd", "guarding.beneath"} == importers("ctypes")


def test_the_guard_s_child_starts_fast():
    """The process that touches files for the guard imports little, and nothing that comes not with Python."""
    used = foreign_imports("guarding.hands") | foreign_imports("guarding.beneath")

    assert {"guarding.beneath"} == own_imports("guarding.hands") | own_imports("guarding.beneath")
    assert used <= {"ctypes", "collections", "errno", "marshal", "os", "stat", "sys", "time"} | {
        *("threading", "_socket", "typing")  # when they are needed, or for types only
    }


def test_every_error_is_ours_and_has_one_home():
    """Every exception that the package defines derives from CacheError and is defined in errors.py."""
    found = {}
    for module in sorted(PATHS.keys() - {"__init__"}):
        for thing in vars(importlib.import_module(f"tusz_cache.{module}")).values():
            if (
                isinstance(thing, type)
                and issubclass(thing, BaseException)
                and thing.__module__.startswith("tusz_cache")
            ):
                found[thing] = thing.__module__

    assert {"tusz_cache.errors"} == set(found.values())
    assert set() == {kind for kind in found if not issubclass(kind, CacheError)}


def test_the_tree_of_errors_is_true():
    """The tree in the docstring of errors.py names every error once, each under its base."""
    drawn: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if not (match := re.match(r"([│ ]*(?:[├└]── )?)([A-Z]\w+(?:, [A-Z]\w+)*)(?:\s|$)", line)) or "Every" in line:
            continue
        depth = len(match[1]) // 4
        for name in match[2].split(", "):
            drawn[name] = above.get(depth - 1, "Exception")
            above[depth] = name

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CacheError)]
    assert {kind.__name__: kind.__base__.__name__ for kind in kinds} == drawn


@of_both_packages
def test_nothing_is_caught_without_a_name(module: str):
    """No `except:` swallows what it does not know."""
    bare = [node.lineno for node in ast.walk(tree_of(module)) if isinstance(node, ast.ExceptHandler) and not node.type]

    assert [] == bare


@of_both_packages
def test_a_module_can_be_read_in_one_sitting(module: str):
    """No module is longer than what one reads at a time, unless it is listed with a reason."""
    lines = len((PATHS | TRAIN)[module].read_text(encoding="utf-8").splitlines())

    assert lines <= LONGEST or module in LONGER, f"{module} has {lines} lines"


# running


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_starts_without_a_warning(verb: str):
    """`python -m tusz_cache.VERB` runs without any warning, though the package is imported first."""
    ran = python("-W", "error", "-m", f"tusz_cache.{verb}", "--help")

    assert (0, "") == (ran.returncode, ran.stderr)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_lists_every_exit_code(verb: str):
    """The help of each command ends with all exit codes and their meaning."""
    text = python("-m", f"tusz_cache.{verb}", "--help").stdout

    missing = [
        code
        for code, meaning in EXIT_CODES.items()
        if not re.search(rf"^  {code} +{re.escape(meaning)}$", text, re.MULTILINE)
    ]
    assert [] == missing


def test_verbs_are_modules_and_modules_are_verbs():
    """`tusz-cache` knows exactly the modules that are commands, and says so."""
    commands = {module for module in PATHS if "cli" in own_imports(module)}
    assert commands == set(VERBS)

    for arguments, status in ((("--help",), 0), ((), 2), (("nonsense",), 2)):
        ran = python("-m", "tusz_cache", *arguments)
        assert status == ran.returncode
        assert set() == {verb for verb in VERBS if verb not in ran.stdout + ran.stderr}


@pytest.mark.parametrize("verb", VERBS)
def test_both_ways_to_a_command_are_the_same(verb: str):
    """`python -m tusz_cache VERB` gives the same help as `python -m tusz_cache.VERB`."""
    assert python("-m", f"tusz_cache.{verb}", "--help").stdout == python("-m", "tusz_cache", verb, "--help").stdout


@pytest.mark.parametrize(
    "module", ["tusz_cache", "tusz_cache.copying.worker", "tusz_cache.sync", "tusz_cache.verify", "tusz_cache.guard"]
)
def test_heavy_packages_wait_until_they_are_needed(module: str):
    """Importing the package, a command or a worker loads no filesystem and no SDK."""
    heavy = (
        "gcsfs",
        "adlfs",
        "azure",
        "sshfs",
        "asyncssh",
        "huggingface_hub",
        "fsspec",
        "s3fs",
        "botocore",
        "aiobotocore",
        "boto3",
        "aiohttp",
        "numpy",
        "moto",
    )
    ran = python("-c", f"import sys, {module}; print(sorted(set({heavy!r}) & set(sys.modules)))")

    assert ("[]\n", "") == (ran.stdout, ran.stderr)


def test_public_names_are_sorted_and_there():
    """`__all__` is sorted, without repetition, and each of its names can be imported and explains itself."""
    public = tusz_cache.__all__

    assert sorted(set(public)) == public
    assert [] == [name for name in public if not hasattr(tusz_cache, name)]
    assert [] == [name for name in public if not getattr(tusz_cache, name).__doc__]


def test_the_package_exports_nothing_else():
    """What the package imports at its top is what it exports."""
    bound = {
        alias.asname or alias.name
        for n in ast.walk(tree_of("__init__"))
        if isinstance(n, ast.ImportFrom) and n.module not in {"typing", "tusz_cache.lazy"}
        for alias in n.names
    }

    assert set(tusz_cache.__all__) == bound == set(tusz_cache._HOMES)


# the second package


def train_imports(module: str) -> set[str]:
    """Return the modules of tusz_train that `module` imports."""
    return {name for name in imported(module) if name.partition(".")[0] == "tusz_train"}


def test_every_module_of_training_has_its_place():
    """The order of the second package names each of its modules once, and none that is not there."""
    assert sorted(TRAIN) == sorted(f"tusz_train.{name}" for name in TRAIN_ORDER)


@every_train_module
def test_a_module_of_training_imports_only_from_below(module: str):
    """Each module can be understood knowing only those before it, and the package's names as nobody else."""
    below = TRAIN_ORDER[: TRAIN_ORDER.index(module.removeprefix("tusz_train."))]

    assert set() == train_imports(module) - {f"tusz_train.{name}" for name in below}


@every_train_module
def test_training_uses_public_names(module: str):
    """What training takes from tusz_cache is public, or shared for a reason."""
    taken = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom)]
    names = {(str(node.module), alias.name) for node in taken for alias in node.names}
    ours = {(home, name) for home, name in names if home.partition(".")[0] == "tusz_cache"}

    public = {("tusz_cache", name) for name in {*tusz_cache.__all__, *SHARED}}
    assert set() == {pair for pair in ours - public if pair[0].removeprefix("tusz_cache.") not in SHARED}


def test_what_is_shared_is_used():
    """A module that training no longer shares is taken off the list."""
    used = {name.removeprefix("tusz_cache.") for module in TRAIN for name in imported(module)}

    assert set(SHARED) == set(SHARED) & used


def test_training_imports_what_is_declared():
    """Torch is imported where it is allowed, and nothing that is not in pyproject.toml."""
    found = {module: foreign_imports(module) - {"tusz_train"} - set(sys.stdlib_module_names) for module in TRAIN}

    assert {module for module, packages in found.items() if "torch" in packages} == TORCH
    assert set().union(*found.values()) <= {"numpy", "torch", "matplotlib", "pydantic", "pydantic_core", "yaml"}


def test_results_are_written_in_one_place():
    """Of the modules that score, none changes files but through the one that publishes them whole."""
    scoring = TRAIN_ORDER[TRAIN_ORDER.index("events") : TRAIN_ORDER.index("__main__")]

    assert {} == {module: calls for module in scoring if (calls := set(writes_of(f"tusz_train.{module}")))}


def test_errors_of_training_derive_from_ours():
    """Every exception of the second package is defined in its errors.py, with an exit code and a place in the tree."""
    found = {
        thing
        for module in TRAIN
        for thing in vars(importlib.import_module(module.removesuffix(".__init__"))).values()
        if isinstance(thing, type) and issubclass(thing, BaseException) and thing.__module__.startswith("tusz_train")
    }

    assert {"tusz_train.errors"} == {kind.__module__ for kind in found}
    assert [] == [kind for kind in found if not issubclass(kind, CacheError) or kind.exit_code not in EXIT_CODES]
    assert [] == [kind for kind in found if f"── {kind.__name__} " not in (train_errors.__doc__ or "")]


@pytest.mark.parametrize("verb", TRAIN_VERBS)
def test_a_command_of_training_explains_itself(verb: str):
    """`python -m tusz_train VERB --help` runs without any warning, and ends with all exit codes."""
    ran = python("-W", "error", "-m", "tusz_train", verb, "--help")

    assert (0, "") == (ran.returncode, ran.stderr)
    assert [] == [code for code in EXIT_CODES if not re.search(rf"^  {code} ", ran.stdout, re.MULTILINE)]
    assert ran.stdout == python("-W", "error", "-m", f"tusz_train.{verb}", "--help").stdout


def test_training_knows_its_verbs():
    """`tusz-train` says which verbs there are, and takes no other."""
    for arguments, status in ((("--help",), 0), ((), 2), (("nonsense",), 2)):
        ran = python("-m", "tusz_train", *arguments)
        assert status == ran.returncode
        assert set() == {verb for verb in TRAIN_VERBS if verb not in ran.stdout + ran.stderr}


def test_scoring_starts_without_torch():
    """Importing the package loads nothing heavy, and what scores loads numpy and no framework."""
    for modules, heavy in (
        ("tusz_train", ("numpy", "torch", "timescoring")),
        ("tusz_train.score, tusz_train.curves, tusz_train.stitch", ("torch", "scipy", "pandas", "fsspec", "s3fs")),
    ):
        ran = python("-c", f"import sys, {modules}; print(sorted(set({heavy!r}) & set(sys.modules)))")
        assert ("[]\n", "") == (ran.stdout, ran.stderr)


def test_public_names_of_training_are_sorted_and_there():
    """`__all__` of the second package is what it exports: sorted, importable, explained."""
    public = tusz_train.__all__

    assert sorted(set(public)) == public == sorted(tusz_train._HOMES)
    assert [] == [name for name in public if not getattr(tusz_train, name).__doc__]
    assert set(public) == {
        alias.name
        for node in ast.walk(tree_of("tusz_train.__init__"))
        if isinstance(node, ast.ImportFrom) and node.module not in {"typing", "tusz_cache.lazy"}
        for alias in node.names
    }
