"""Configurations: strict to read, whole to tell, one hash for what they train; the file limit of smoke runs."""

import ast
import itertools
import json
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import tusz_train
from tests.support.config_reference import ROOT, SHIPPED, render, sections_of
from tusz_train.config import Config, training_hash
from tusz_train.config_file import as_yaml, keys, load_config
from tusz_train.errors import ConfigError
from tusz_train.file_limit import FileLimit, resolve_limit

NEEDED = "run: {name: a, output_dir: results}\ndata: {cache_dir: cache}\nloop: {epochs: 2}\n"
PACKAGE = Path(tusz_train.__file__).parent


def config_of(tmp_path: Path, *overrides: str, text: str = NEEDED) -> Config:
    path = tmp_path / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def refused(tmp_path: Path, *overrides: str, text: str = NEEDED) -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(tmp_path, *overrides, text=text)
    assert caught.value.hint
    assert 2 == caught.value.exit_code
    return str(caught.value)


def leaf_of(config: Config, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


# reading


def test_what_is_needed_is_enough(tmp_path: Path):
    """A name, an output folder, a cache and a length make a configuration; the rest has defaults."""
    config = config_of(tmp_path)

    assert ("a", "cache", 2) == (config.run.name, config.data.cache_dir, config.loop.epochs)
    assert not config.run.smoke


@pytest.mark.parametrize("missing", ["run.name", "run.output_dir", "data.cache_dir"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str):
    """A needed key that is absent is named in full, with the file."""
    section, key = missing.split(".")
    given = yaml.safe_load(NEEDED)
    del given[section][key]

    assert f"some.yaml: {missing} is missing" in refused(tmp_path, text=yaml.safe_dump(given))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("data.batchsize=3", "data.batch_size"),
        ("data.balance.ful_ratio=1", "data.balance.full_ratio"),
        ("model.options.dropuot=0.1", "model.options.dropout"),
        ("lr=1", "optimizer.lr"),
        ("training.epochs=3", "loop.epochs"),
        ("optimiser.betas=[0.9, 0.9]", "optimizer.betas"),
        ("wandb.entity=me", "logging.wandb_entity"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_one(tmp_path: Path, wrong: str, right: str):
    """A slip in a key is an error that names the key that was meant."""
    key = wrong.partition("=")[0]

    assert f"--set: {key} is no key; did you mean {right}?" == refused(tmp_path, wrong)


def test_a_key_that_resembles_nothing_gets_no_suggestion(tmp_path: Path):
    """Where no key is near, none is suggested."""
    assert "--set: zzzzzz is no key" == refused(tmp_path, "zzzzzz=1")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("data.batch_size=64.0", "data.batch_size: should be a valid integer, but is 64.0"),
        ("data.batch_size='64'", "data.batch_size: should be a valid integer, but is '64'"),
        ("data.batch_size=0", "data.batch_size: should be greater than 0, but is 0"),
        ("loop.compile=1", "loop.compile: should be a valid boolean, but is 1"),
        ("loop.compile=on", "loop.compile: should be a valid boolean, but is 'on'"),
        ("loop.epochs=true", "loop.epochs: should be a valid integer, but is True"),
        ("optimizer.lr=.inf", "optimizer.lr: should be a valid number, but is '.inf'"),
        ("optimizer.betas=[0.9]", "optimizer.betas.1 is missing"),
        ("data.balance.draw=often", "data.balance.draw: should be 'fixed' or 'redraw', but is 'often'"),
        ("data=3", "data: should be a valid dictionary or instance of DataConfig, but is 3"),
        ("run.name=../up", "run.name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', but is '../up'"),
        ("data.cache_dir=''", "data.cache_dir: String should have at least 1 character, but is ''"),
        ("data.expected_files={train: 3}", "data.expected_files.dev is missing"),
        ("model.name=v3", "model.name: should be 'seizure_transformer' or 'small', but is 'v3'"),
    ],
)
def test_a_wrong_value_is_refused_and_shown(tmp_path: Path, override: str, reason: str):
    """No value is converted: what is not of a key's type is refused, with key, reason and value."""
    assert f"--set: {reason}" == refused(tmp_path, override)


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    """Several mistakes are one error with a line each, which says whether file or command line is at fault."""
    told = refused(tmp_path, "loop.epochs=0", text=NEEDED + "optimizer: {lr: fast, beta: 1}\n").splitlines()

    starts = [line.strip().removeprefix(str(tmp_path)).lstrip("/").rsplit(":", 1)[0] for line in told]
    assert ["some.yaml", "some.yaml: optimizer.lr", "--set: loop.epochs"] == starts


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["loop.steps=5"], ("epochs", "steps")),
        (["loop.epochs=null"], ("epochs", "steps")),
        (["schedule.warmup_steps=5", "schedule.warmup_share=0.1"], ("warmup_steps", "warmup_share")),
        (["loop.epochs=null", "loop.steps=5", "schedule.warmup_steps=5"], ("schedule.warmup_steps", "loop.steps")),
        (["loop.pos_weight=3"], ("data.balance", "loop.pos_weight")),
        (["data.stage_to=/tmp/x"], ("stage_to", "store_dir")),
        (["logging.wandb=required"], ("wandb_project",)),
        (["validation.thresholds=[0.5, 0.4]"], ("thresholds",)),
        (["model.options.heads=3"], ("heads",)),
        (["model.options.decoder_kernels=[3, 5]"], ("decoder_kernels",)),
        (["model.options.head_kernel=4"], ("even",)),
        (["model.options.samples=15361"], ("samples",)),
    ],
)
def test_a_contradiction_is_refused(tmp_path: Path, overrides: list[str], named: tuple[str, ...]):
    """Values that exclude each other are an error that names both keys."""
    told = refused(tmp_path, *overrides)

    assert [] == [name for name in named if name not in told]


def test_the_imbalance_may_be_corrected_by_either_means(tmp_path: Path):
    """Weighted samples are taken once balanced draws are off: one correction, not two."""
    config = config_of(tmp_path, "loop.pos_weight=3", "data.balance=null")

    assert (3.0, None) == (config.loop.pos_weight, config.data.balance)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("run: {name: a}\nrun: {name: b}\n", "run stands twice (line 2, column 1)"),
        ("data:\n  cache_dir: a\n  cache_dir: b\n", "cache_dir stands twice (line 3, column 3)"),
        ("1: a\n", "1 is no key (line 1, column 1)"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: !!binary aGk=\n", "could not determine a constructor"),
        ("a: [1\n", "expected ',' or ']'"),
        ("a: &b [*b]\n", "recursive"),
        ("- 1\n", "holds no sections"),
        ("", "holds no sections"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(tmp_path: Path, text: str, reason: str):
    """Keys that stand twice, tags and broken YAML are errors that name the place."""
    assert reason in refused(tmp_path, text=text)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path):
    """A missing file, and one that is no text, are errors of the configuration."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")

    for name in ("missing.yaml", "binary.yaml"):
        with pytest.raises(ConfigError, match=f"{name} cannot be read"):
            load_config(tmp_path / name)


def test_words_and_numbers_are_what_they_look_like(tmp_path: Path):
    """`off` is a word, `1e-4` and `12` are numbers, as in YAML 1.2."""
    config = config_of(tmp_path, "loop.amp=off", "optimizer.lr=1e-4", "run.name=off", "run.seed=012")

    assert ("off", 1e-4, "off", 12) == (config.loop.amp, config.optimizer.lr, config.run.name, config.run.seed)


@pytest.mark.parametrize("override", ["data.batch_size", "=3", "data..x=3", ".=1"])
def test_an_override_without_key_or_value_is_refused(tmp_path: Path, override: str):
    """--set takes key.sub=value."""
    assert f"--set {override} is not key.sub=value" == refused(tmp_path, override)


def test_overrides_win_in_their_order_and_make_sections(tmp_path: Path):
    """A later override wins; a section that is absent or null comes to be; a value may be a mapping."""
    config = config_of(
        tmp_path,
        "data.batch_size=2",
        "data.batch_size=3",
        "data.balance=null",
        "data.balance.draw=fixed",
        "data.expected_files={train: 1, dev: 2}",
    )

    assert (3, "fixed", 1) == (config.data.batch_size, config.data.balance.draw, config.data.expected_files.train)


def test_an_override_below_a_value_is_refused(tmp_path: Path):
    """A key below something that is no section is an error."""
    assert "--set run.name.first: name is no section" == refused(tmp_path, "run.name.first=1")


def test_an_override_changes_one_section_of_two_that_share_an_alias(tmp_path: Path):
    """Two keys that name one YAML node stay apart."""
    text = NEEDED + "guard: {allow: [&m {path: a, fstype: b, source: c, reason: d}, *m]}\n"

    assert 2 == len(config_of(tmp_path, "run.seed=1", text=text).guard.allow)


# telling


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_shipped_files_load_and_read_back(path: Path, tmp_path: Path):
    """Each file under configs/ is valid, and the resolved configuration reads back from YAML and JSON as the same."""
    config = load_config(path)
    (tmp_path / "again.yaml").write_text(as_yaml(config), encoding="utf-8")

    assert config == load_config(tmp_path / "again.yaml")
    assert config == Config.model_validate_json(config.model_dump_json())
    assert training_hash(config) == training_hash(load_config(tmp_path / "again.yaml"))


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@given(
    text=st.one_of(TEXTS, st.sampled_from(["off", "1e-4", "012", "null", "~", "true", "1:30", "=", "<<", "2020-01-01"]))
)
def test_any_text_reads_back(text: str, tmp_path_factory: pytest.TempPathFactory):
    """A text that looks like something else is quoted when it is told."""
    folder = tmp_path_factory.getbasetemp()
    config = Config.model_validate(
        {"run": {"name": "a", "output_dir": text}, "data": {"cache_dir": text}, "loop": {"epochs": 1}}
    )
    (folder / "told.yaml").write_text(as_yaml(config), encoding="utf-8")

    assert config == load_config(folder / "told.yaml")


def test_the_resolved_configuration_tells_every_layer(tmp_path: Path):
    """The named model's layers are in the resolved configuration, changed by the options alone."""
    small = config_of(tmp_path, "model.name=small").model.options
    changed = config_of(tmp_path, "model.name=small", "model.options.layers=3").model.options

    assert small.model_copy(update={"layers": 3}) == changed
    assert small.filters != config_of(tmp_path).model.options.filters


def test_a_configuration_cannot_be_changed(tmp_path: Path):
    """A configuration is a value."""
    with pytest.raises(ValidationError, match="frozen"):
        config_of(tmp_path).data.batch_size = 3


# the hash


CHANGED = {
    "run.seed": "1", "run.smoke": "true", "data.batch_size": "2", "data.balance": "null",
    "data.balance.full_ratio": "1", "data.augmentation.noise": "0.1", "model.name": "small",
    "model.options.layers": "3",
    "optimizer.name": "radam", "optimizer.lr": "1", "optimizer.betas": "[0.5, 0.5]", "schedule.floor": "0.5",
    "schedule.warmup_steps": "3", "loop.epochs": "3", "loop.accumulation": "2", "loop.clip_norm": "null",
    "loop.amp": "off", "loop.compile": "true", "loop.ema_decay": "null", "loop.max_nonfinite_steps": "1",
    "validation.stride_s": "10", "validation.patience": "null", "postprocessing.release": "0.5",
}  # fmt: skip
SAME = {
    "run.name": "b", "run.output_dir": "b", "data.cache_dir": "b", "data.store_dir": "b",
    "data.expected_files": "{train: 1, dev: 1}", "data.workers": "1", "data.worker_mode": "process",
    "data.prefetch": "1", "data.advise": "off", "checkpoint.keep_last": "1", "logging.tensorboard": "false",
    "guard.probe": "true", "guard.seal": "ignore",
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGED)
def test_what_changes_the_training_changes_the_hash(tmp_path: Path, key: str):
    """Weights, windows, length and selection are in the hash."""
    changed = config_of(tmp_path, f"{key}={CHANGED[key]}")

    assert training_hash(config_of(tmp_path)) != training_hash(changed)


@pytest.mark.parametrize("key", SAME)
def test_what_only_moves_the_run_leaves_the_hash(tmp_path: Path, key: str):
    """Places, names, speed and logs are not in the hash: the run may go on elsewhere."""
    changed = config_of(tmp_path, f"{key}={SAME[key]}")

    assert config_of(tmp_path) != changed
    assert training_hash(config_of(tmp_path)) == training_hash(changed)


def test_the_hash_does_not_hang_on_how_it_is_written(tmp_path: Path):
    """Order of keys, and a default that is spelt out, make no difference; the hash is the same in years."""
    told = yaml.safe_load(as_yaml(config_of(tmp_path)))
    names = list(told)
    random.Random(0).shuffle(names)
    text = yaml.safe_dump({name: told[name] for name in names}, sort_keys=False)

    assert training_hash(config_of(tmp_path)) == training_hash(config_of(tmp_path, text=text))
    assert 64 == len(training_hash(config_of(tmp_path)))


# the file limit


def smoke(tmp_path: Path) -> Config:
    return config_of(tmp_path, "run.smoke=true")


@given(st.integers(1, 10**6))
def test_a_smoke_run_takes_a_fifth_of_dev(tmp_path_factory: pytest.TempPathFactory, files: int):
    """N files of train, N // 5 but at least one of dev."""
    config = smoke(tmp_path_factory.getbasetemp())

    assert FileLimit(files, max(1, files // 5)) == resolve_limit({"BGB_LIMIT_FILES": str(files)}, config)


@pytest.mark.parametrize("environment", [{}, {"BGB_LIMIT_FILES": ""}, {"BGB_LIMIT_FILES": " "}, {"OTHER": "3"}])
def test_without_the_variable_there_is_no_limit(tmp_path: Path, environment: dict[str, str]):
    """Unset and empty mean all files, in smoke runs too."""
    assert resolve_limit(environment, smoke(tmp_path)) is None
    assert resolve_limit(environment, config_of(tmp_path)) is None


@pytest.mark.parametrize("text", ["0", "-1", "ten", "1.5", "1e2", "٣", "5 0"])
def test_a_limit_that_is_no_count_is_refused(tmp_path: Path, text: str):
    """N is a whole number of 1 or more."""
    with pytest.raises(ConfigError, match="is no number of files"):
        resolve_limit({"BGB_LIMIT_FILES": text}, smoke(tmp_path))


# what went wrong before in training on this corpus, and cannot here


@pytest.mark.parametrize("key", ["experiment.cache_dir", "cache_dir", "data.cache", "data.data_dir", "run.cache_dir"])
def test_there_is_one_key_for_the_cache(tmp_path: Path, key: str):
    """Two keys for the cache, one built and the other read, so that training preprocessed live: now only one exists."""
    assert ["data.cache_dir"] == [one for one in keys(Config) if "cache" in one]
    assert f"{key} is no key" in refused(tmp_path, f"{key}=cache/other")
    assert "did you mean data.cache_dir?" in refused(tmp_path, "experiment.cache_dir=cache/other")


def test_a_full_run_cannot_inherit_a_file_limit(tmp_path: Path):
    """A full run used 50 files, since the shell still had the variable: now it does not start."""
    with pytest.raises(ConfigError, match=r"BGB_LIMIT_FILES=50 .* no smoke run") as caught:
        resolve_limit({"BGB_LIMIT_FILES": "50"}, config_of(tmp_path))

    assert 2 == caught.value.exit_code
    assert "run.smoke" in caught.value.hint


def test_the_limit_can_be_printed_and_stored(tmp_path: Path):
    """The resolved limit says both counts and where it comes from."""
    assert "file limit: 50 train, 10 dev (BGB_LIMIT_FILES=50)" == str(
        resolve_limit({"BGB_LIMIT_FILES": "50"}, smoke(tmp_path))
    )


def test_smoke_is_a_key_and_not_a_file_name(tmp_path: Path):
    """A run was a smoke run because its file's path held "smoke": now the key alone decides."""
    folder = tmp_path / "smoke"
    folder.mkdir()

    assert not config_of(folder).run.smoke
    assert config_of(tmp_path, "run.smoke=true").run.smoke


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_account_is_built_in(path: Path, tmp_path: Path):
    """A person's W&B account was in the code, wrong for every other key: no default and no shipped file names one."""
    assert (None, None) == (config_of(tmp_path).logging.wandb_entity, config_of(tmp_path).logging.wandb_project)
    assert (None, "off") == (load_config(path).logging.wandb_entity, load_config(path).logging.wandb)


def test_the_page_on_configuration_is_made_of_the_code():
    """Batch sizes and file counts differed from page to page: every key and shipped value is told by the code."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert render() == page, "docs/configuration.md is not what the code says: run `make docs`"
    assert [] == [key for key in leaves() if f"| `{key}` |" not in page]


def leaves() -> list[str]:
    sections = {name for name, _ in sections_of(Config)}
    return [key for key in keys(Config) if key not in sections]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_file_counts_are_the_same_everywhere(path: Path):
    """Where a shipped file expects a number of files, it is that of the whole cache."""
    expected = load_config(path).data.expected_files

    assert expected is None or (4667, 1832) == (expected.train, expected.dev)


def test_only_the_modal_files_name_its_volume():
    """What runs at Modal reads and writes below /results, and nothing else does."""
    for path, key in itertools.product(SHIPPED, ("data.cache_dir", "data.store_dir", "run.output_dir")):
        value = leaf_of(load_config(path), key)
        assert (value is not None and str(value).startswith("/results")) == (path.parent.name == "modal"), (path, key)


def test_the_environment_is_read_once_and_passed_on(tmp_path: Path):
    """Values of the environment were cached at import: now each call sees what it is given, and no module looks."""
    environment = {"BGB_LIMIT_FILES": "5"}
    config = smoke(tmp_path)
    first = resolve_limit(environment, config)
    environment["BGB_LIMIT_FILES"] = "10"

    assert (5, 10) == (first.train, resolve_limit(environment, config).train)
    names = ("config", "config_data", "config_file", "file_limit", "plain_yaml", "section", "montage")
    paths = [PACKAGE / f"{name}.py" for name in names] + sorted((PACKAGE / "model").glob("*.py"))
    assert [] == [path.name for path in paths if {"environ", "getenv"} & names_in(path)]


def names_in(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {n.attr for n in nodes if isinstance(n, ast.Attribute)} | {n.id for n in nodes if isinstance(n, ast.Name)}


def test_the_configuration_is_stored_as_json(tmp_path: Path):
    """What a run stores is JSON that any reader takes, without anything that JSON does not have."""
    told = json.loads(config_of(tmp_path).model_dump_json())

    assert list(Config.model_fields) == list(told)
