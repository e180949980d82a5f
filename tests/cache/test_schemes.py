"""gs://, az://, hf:// and sftp:// through their real filesystems, from servers on loopback."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.cache.conftest import PART, Hook, Result, noise
from tests.support.cloudserver import AzureServer, CloudServer, GoogleServer, HubServer
from tests.support.running import META, start, tree
from tests.support.sftpserver import SftpServer
from tusz_cache import Access, Durability, SyncReport, SyncSettings, populate_cache
from tusz_cache.progress import Progress
from tusz_cache.stores import generic
from tusz_cache.stores.opening import without_secrets

LONG = "train/long_s001_t000_windows.npz"  # several parts
FILES = {
    LONG: 4 * PART + 5,
    "train/a_s001_t000_windows.npz": 20_000,
    "dev/b.npz": 0,
    "dev/[x] é.npz": 7,
    "readme.txt": 10,
}
CLOUDS: dict[str, type[CloudServer]] = {"gs": GoogleServer, "az": AzureServer, "hf": HubServer}
LEVELS = {
    "gs": {"source-crc": 5},
    "az": {"etag-md5": 5},
    "hf": {"source-crc": 4, "own-crc": 1},  # a small file outside of LFS has git's hash only
    "sftp": {"own-crc": 5},
}


@dataclass
class Store:
    """A server, and syncs from it."""

    server: Any

    @property
    def scheme(self) -> str:
        return str(self.server.scheme)

    def put(self, key: str, size: int) -> None:
        self.server.put(f"tusz/{key}", noise(size, f"{key} {self.server.versions}"))

    def drop(self, key: str) -> None:
        self.server.drop(f"tusz/{key}")

    def contents(self) -> dict[str, bytes]:
        below = ((key, data) for key, data in self.server.contents().items() if key.startswith("tusz/"))
        return {key.removeprefix("tusz/"): data for key, data in below}

    def sync(
        self, target: Path, act: Callable[[], object] | None = None, source: str | None = None, **changes: Any
    ) -> SyncReport:
        usual: dict[str, Any] = {
            "access": Access(storage_options=self.server.options()),
            "part_size": PART,
            "workers": 4,
            "retries": 2,
            "durability": Durability("none"),
        }
        progress = Progress("quiet") if act is None else Hook(act)
        settings = SyncSettings(**usual | changes)
        return populate_cache(source or self.server.root, target, settings=settings, progress=progress)

    def attempt(self, target: Path, **options: Any) -> Result:
        return Result.of(lambda: self.sync(target, **options))

    def words(self) -> list[str]:
        """Return the storage options as words of a command line."""
        return [word for pair in self.server.options().items() for word in ("--storage-option", "{}={}".format(*pair))]


def serve(scheme: str, folder: Path) -> Any:
    if scheme != "sftp":
        return CLOUDS[scheme]()
    files, keys = folder / "files", folder / "keys"
    files.mkdir()
    keys.mkdir()
    return SftpServer(files, keys)


@pytest.fixture(params=["gs", "az", "hf", "sftp"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return a filled store of each kind."""
    with serve(request.param, tmp_path) as server:
        filled = Store(server)
        for key, size in FILES.items():
            filled.put(key, size)
        yield filled


def only(*schemes: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("store", schemes, indirect=True)


# the plain way


def test_a_cache_arrives_and_stays(store: Store, target: Path, command: Any) -> None:
    """All bytes come, checked by the best the store has, sealed; a second run copies nothing and shows no secret."""
    common = [store.server.root, target, "--part-size", PART, "--durability", "none", "--json", *store.words()]
    ran = command(*common)
    assert (0, True) == (ran.code, ran.json["sealed"]), ran.err
    assert LEVELS[store.scheme] == {level: count for level, count in ran.json["verification"].items() if count}
    assert store.contents() == tree(target)
    again = command(*common)
    assert (0, 0, 5) == (again.code, again.json["bytes"]["copied"], again.json["files"]["unchanged"])
    assert not [word for word in ("AccountKey", "hf_secret") if word in ran.out + ran.err + again.out + again.err]


def test_each_byte_is_asked_for_once(store: Store, target: Path) -> None:
    """A part is read by itself: neither is the whole file read for it, nor anything ahead of it."""
    store.sync(target)
    assert sum(FILES.values()) == store.server.sent


def test_one_file(store: Store, target: Path) -> None:
    """A source may be one file."""
    report = store.sync(target, source=f"{store.server.root}/{LONG}")
    assert (0, 1, True) == (report.exit_code, report.files_copied, report.sealed)
    assert {Path(LONG).name: store.contents()[LONG]} == tree(target)


def test_an_edit_of_the_same_size_is_seen(store: Store, target: Path) -> None:
    """A later run fetches the one file that was edited, though its size is the same."""
    store.sync(target)
    store.put(LONG, FILES[LONG])
    assert FILES[LONG] == store.sync(target).bytes_copied
    assert store.contents() == tree(target)


@only("gs", "hf")
def test_few_requests(store: Store, target: Path) -> None:
    """Where requests for bytes name the version, nothing is asked after them, and the Hub's tree is listed once."""
    store.sync(target)
    assert store.server.asked <= {"gs": 10 + 3 * len(FILES), "hf": 8}[store.scheme]


# changes on the way


@pytest.mark.parametrize("how", ["edited", "gone", "shorter"])
def test_a_change_after_the_listing(store: Store, target: Path, how: str) -> None:
    """A file that changes after it was listed is exit 4 and does not arrive; a commit of the Hub does not change."""
    planned = store.contents()
    change = {
        "edited": lambda: store.put(LONG, FILES[LONG]),
        "gone": lambda: store.drop(LONG),
        "shorter": lambda: store.put(LONG, 1000),
    }[how]
    result = store.attempt(target, act=change)
    if store.scheme == "hf":
        assert (0, planned) == (result.code, tree(target))
    else:
        assert (4, [LONG]) == (result.code, [failure["key"] for failure in result.json["failures"]])
        assert {key: data for key, data in planned.items() if key != LONG} == tree(target)
        assert not (target / META / "seal.json").exists()
    assert 0 == store.sync(target).exit_code
    assert store.contents().items() <= tree(target).items()


def test_a_change_amid_a_file(store: Store, target: Path) -> None:
    """A file that is edited between two of its parts is never a mixture: it is the old one, or does not arrive."""
    planned = store.contents()
    store.drop("train/a_s001_t000_windows.npz")
    store.server.act = lambda: store.put(LONG, FILES[LONG])
    result = store.attempt(target, workers=1, source=f"{store.server.root}/train")
    expected = (0, planned[LONG]) if store.scheme == "hf" else (4, None)
    assert expected == (result.code, tree(target).get(Path(LONG).name))


# damage on the way


@only("gs", "az", "hf")
def test_a_byte_that_flips_once_is_fetched_again(store: Store, target: Path) -> None:
    """A wrong byte shows by the source's checksum, and the file is fetched anew."""
    store.server.flips = 1
    report = store.sync(target, source=f"{store.server.root}/train")
    assert (0, True) == (report.exit_code, report.bytes_refetched > 0)
    assert [data for key, data in store.contents().items() if key.startswith("train/")] == [*tree(target).values()]


@only("gs", "az", "hf")
def test_a_byte_that_always_flips_keeps_a_file_away(store: Store, target: Path) -> None:
    """What never has the source's checksum never gets its name."""
    store.server.flips = -1
    result = store.attempt(target, source=f"{store.server.root}/train")
    assert (3, {}) == (result.code, tree(target))
    assert "checksum" in result.json["failures"][0]["error"]


# a store that does not answer


def test_a_silent_server_is_given_up(store: Store, target: Path) -> None:
    """--stall-timeout holds for every scheme: a server that stops answering ends the run with exit 3."""
    store.server.hang.set()
    began = time.monotonic()
    result = store.attempt(target, source=f"{store.server.root}/{LONG}", stall_timeout=0.5, retries=0)
    store.server.hang.clear()
    assert (3, True) == (result.code, time.monotonic() - began < 20)
    assert "no answer" in result.json["failures"][0]["error"]
    assert 0 == store.sync(target).exit_code
    assert store.contents() == tree(target)


def test_a_server_that_is_gone(store: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens, the run ends with exit 3 and a hint, and the target is untouched."""
    monkeypatch.setattr(generic, "ANSWER", 2.0)
    store.server.vanish()
    result = store.attempt(target)
    assert (3, True) == (result.code, bool(result.error and result.error.hint)), result
    assert not (target / META / "seal.json").exists()


@only("gs", "hf")
def test_a_busy_store_is_asked_again(store: Store, target: Path) -> None:
    """A 503 for bytes costs time and nothing else."""
    store.server.status = [503]
    assert 0 == store.sync(target).exit_code
    assert store.contents() == tree(target)


@only("sftp")
def test_a_lost_connection_is_opened_anew(store: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests share one SSH connection; when it breaks amid the copy, the run goes on over a new one."""
    server = store.server

    def cut() -> None:
        for connection in list(server.connections):
            connection.abort()

    monkeypatch.setattr(generic, "REOPEN_EVERY", 0.1)
    server.act = cut
    report = store.sync(target, retries=6)
    assert (0, True) == (report.exit_code, report.retries > 0)
    assert store.contents() == tree(target)


@only("sftp", "gs")
def test_a_killed_run_goes_on(store: Store, target: Path) -> None:
    """After SIGKILL amid the copy the next run ends with the same bytes, and fetches what was in flight again."""
    for number in range(8):
        store.put(f"train/more{number}.npz", 8 * PART)
    store.server.delay = 0.05
    options = [store.server.root, target, "--part-size", PART, "--workers", 2, "--json", "--quiet", *store.words()]
    process = start("sync", *options)
    while store.server.sent < 12 * PART and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert -signal.SIGKILL == process.returncode
    store.server.delay = 0.0
    process = start("sync", *options)
    out, err = process.communicate(timeout=60)
    assert 0 == process.returncode, err
    assert json.loads(out)["sealed"]
    total = sum(map(len, store.contents().values()))
    assert total <= store.server.sent <= total + 4 * PART
    assert store.contents() == tree(target)


# what cannot be opened


def refused(result: Result, code: int, *words: str) -> None:
    """It ended with `code` and a hint that has one of `words`."""
    assert (code, True) == (result.code, result.error is not None), result
    assert [word for word in words if word in result.error.hint], result.error.hint


def test_wrong_credentials(store: Store, target: Path, tmp_path: Path) -> None:
    """A store that refuses us is exit 2, with a hint how to identify at this kind of store."""
    options = store.server.options()
    if store.scheme == "sftp":
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
        options["client_keys"] = str(tmp_path / "other")
    else:
        store.server.denied = True
    result = store.attempt(target, access=Access(storage_options=options))
    refused(result, 2, "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE", "HF_TOKEN", "client_keys")
    assert not target.exists() or not tree(target)


@only("gs", "az", "hf")
def test_one_object_that_is_denied(store: Store, target: Path) -> None:
    """An object that may not be read fails by itself; the others arrive."""
    store.server.hidden = {f"tusz/{LONG}"}
    result = store.attempt(target)
    assert [LONG] == [failure["key"] for failure in result.json["failures"]]
    assert 3 == result.code
    assert {key: data for key, data in store.contents().items() if key != LONG} == tree(target)


@pytest.mark.parametrize("what", ["path", "container"])
def test_a_source_that_is_not_there(store: Store, target: Path, what: str) -> None:
    """A bucket, container, repository or path that does not exist is exit 2 with a hint."""
    root = store.server.root
    wrong = {"path": root + "/nothing", "container": root.replace("lab", "nobody").replace("/tusz", "/nothing")}[what]
    refused(store.attempt(target, source=wrong), 2, "check")


@only("sftp")
def test_an_unknown_server_is_not_trusted(store: Store, target: Path, tmp_path: Path) -> None:
    """A host key that is not written down is refused, though sshfs by itself would trust any."""
    empty = tmp_path / "empty"
    empty.write_text("")
    options = store.server.options() | {"known_hosts": str(empty)}
    refused(store.attempt(target, access=Access(storage_options=options)), 2, "ssh-keyscan")


@only("sftp")
def test_a_password_is_never_shown(store: Store, target: Path) -> None:
    """A password in the URL stays out of what is said of it, also where the source cannot be opened."""
    options = store.server.options() | {"client_keys": [], "colour": "blue"}
    source = store.server.root.replace("user@", "user:hush-hush@")
    for wrong in (options, {key: value for key, value in options.items() if key != "colour"}):
        result = store.attempt(target, source=source, access=Access(storage_options=wrong))
        assert (2, False) == (result.code, "hush-hush" in f"{result.error} {result.error and result.error.hint}")


def test_a_container_is_no_user() -> None:
    """abfs://container@account keeps its container where user names and passwords are left out."""
    assert "abfs://lab@account.dfs.core.windows.net/tusz" == without_secrets(
        "abfs://lab@account.dfs.core.windows.net/tusz"
    )
    assert "sftp://host/tusz" == without_secrets("sftp://user:hush-hush@host/tusz")


@only("sftp")
def test_links_are_followed(store: Store, target: Path) -> None:
    """A symbolic link stands for what it leads to, as with a local source; one that leads nowhere is told."""
    root = store.server.folder / "tusz"
    (root / "link.npz").symlink_to(LONG)
    (root / "folder").symlink_to("dev")
    wanted = store.contents()
    report = store.sync(target)
    assert 0 == report.exit_code
    assert wanted | {f"folder/{Path(key).name}": wanted[key] for key in wanted if key.startswith("dev/")} == tree(
        target
    )
    (root / "nowhere").symlink_to("gone")
    refused(store.attempt(target), 2, "mend")


@only("hf")
def test_a_revision(store: Store, target: Path) -> None:
    """A commit in the URL is what comes, whatever was committed since."""
    planned, commit = store.contents(), store.server.commit()
    store.put(LONG, FILES[LONG])
    store.sync(target, source=store.server.root.replace("lab/tusz", f"lab/tusz@{commit}"))
    assert planned == tree(target)


OPTIONS = {
    "gs": {"tokn": "anon"},
    "hf": {"tokn": "x"},
    "sftp": {"colour": "blue"},
    "az": {"connection_string": "nonsense"},
}


def test_a_wrong_storage_option(store: Store, target: Path) -> None:
    """A storage option that the filesystem cannot use is exit 2, before anything else happens."""
    options = store.server.options() | OPTIONS[store.scheme]
    result = store.attempt(target, access=Access(storage_options=options))
    assert (2, True) == (result.code, bool(result.error and result.error.hint)), result


MODULES = {"gs": "gcsfs.core", "az": "adlfs", "hf": "huggingface_hub", "sftp": "sshfs"}


def test_a_missing_package(store: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package of a scheme the error names the extra to install."""
    monkeypatch.setitem(sys.modules, MODULES[store.scheme], None)
    refused(store.attempt(target), 2, f"pip install 'tusz-cache[{store.scheme}]'")
