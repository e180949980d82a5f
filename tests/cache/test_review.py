"""What a stranger's review found, each kept from coming back."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import fsspec
import pytest

import tusz_cache.run as run_module
from tests.support.running import KEYS, META, run, start, tree
from tests.support.s3server import S3Server
from tusz_cache import Access, Filters, MaxDelete, SyncReport, populate_cache, verify_cache
from tusz_cache.copying.lanes import fetch_all
from tusz_cache.copying.pieces import Failed, Fetched, Piece
from tusz_cache.copying.rate import Weather
from tusz_cache.entry import Entry
from tusz_cache.errors import EmptyListing, Interrupted, Throttled, UsageError
from tusz_cache.progress import Progress
from tusz_cache.stores.base import HttpFetch

EVERYTHING = MaxDelete.parse("100%")


def quiet() -> Progress:
    return Progress("quiet")


def fill(root: Path, names: str = "abcd", size: int = 100_000) -> Path:
    """Write files and return the bucket's folder."""
    for number, name in enumerate(names):
        path = root / "bucket" / "train" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([65 + number]) * size)
    return root / "bucket"


def rot(path: Path) -> None:
    """Change a byte behind the back of every record."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_damage_is_not_forgotten_when_it_cannot_be_mended_at_once(tmp_path: Path) -> None:
    """A file that --reverify found damaged, and that could not be fetched, is fetched by the next plain run."""
    fill(tmp_path / "source")
    target = tmp_path / "target"
    with S3Server(tmp_path / "source", checksum="crc64nvme") as server:
        options = ["s3://bucket", target, "--endpoint-url", server.url, "--retries", 0, "--quiet"]
        assert 0 == run("sync", *options).code
        rot(target / "train/a.npz")
        server.configure(faults=[{"key": "*a.npz", "do": "status", "arg": 500, "times": 1}])
        assert 3 == run("sync", *options, "--reverify").code

        assert 0 == run("sync", *options).code
    assert 0 == run("verify", target, "--level", "full").code


def test_a_listing_is_never_older_than_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run lists after it has locked, so that --delete cannot remove what another run has just brought."""
    source, target = fill(tmp_path / "source"), tmp_path / "target"
    populate_cache(str(source), target, progress=quiet())
    held = []
    true = run_module.list_source

    def watched(*arguments):
        held.append((target / META / "lock").read_bytes() != b"")
        return true(*arguments)

    monkeypatch.setattr(run_module, "list_source", watched)
    populate_cache(str(source), target, delete=True, progress=quiet())

    assert [True] == held


def test_a_refusal_whose_text_breaks_off_is_a_refusal(tmp_path: Path) -> None:
    """A 503 whose body is cut by a reset is tried again like any other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for number in range(2):
            connection, _ = listener.accept()
            connection.recv(65536)
            if number == 0:
                connection.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 500\r\n\r\nabc")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            else:
                connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 3\r\n\r\nabc')
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    url = "http://{}:{}/x".format(*listener.getsockname())
    piece = Piece(0, Entry("x", 3, "e"), HttpFetch(url), tmp_path / "x", 0, 3, create=True, stall=5.0)
    [first], [second] = (*fetch_all([piece]), *fetch_all([piece]))
    thread.join()
    listener.close()

    assert isinstance(first, Failed)
    assert isinstance(first.error, Throttled)
    assert isinstance(second, Fetched)


def test_a_storm_is_waited_out(tmp_path: Path) -> None:
    """Refusals of everything, longer than the retries of any one part, fail nothing once the store answers again."""
    source = fill(tmp_path / "source", names="abcdefghijklmnop", size=1000)
    with S3Server(tmp_path / "source", checksum="crc64nvme") as server:
        server.configure(faults=[{"key": "*", "do": "status", "arg": 503, "times": 40}])
        options = ["s3://bucket", tmp_path / "target", "--endpoint-url", server.url, "--retries", 1, "--workers", 4]
        ended = run("sync", *options, "--json", "--quiet")

    assert (0, 0) == (ended.code, ended.json["files"]["failed"])
    assert tree(source) == tree(tmp_path / "target")


def test_single_bad_objects_are_no_storm() -> None:
    """Only when as many parts fail as are under way, of several objects, and nothing comes between, is it the store."""
    weather = Weather()
    for part in range(9):
        weather.missed(f"object {part % 3}", part, float(part))
    assert weather.storm(10.0, 5) is None

    weather.missed("another", 0, 9.0)
    assert 10.0 == weather.storm(10.0, 5)

    weather.succeeded()
    weather.missed("two", 0, 11.0)
    assert weather.storm(12.0, 5) is None


def test_filters_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    """A typing error in a filter never seals an empty cache over a good one."""
    source, target = fill(tmp_path / "source"), tmp_path / "target"
    populate_cache(str(source), target, progress=quiet())
    with pytest.raises(EmptyListing):
        populate_cache(str(source), target, filters=Filters(include=("trian/*",)), progress=quiet())

    assert verify_cache(target, expect={"train": 4}, progress=quiet()).ok


def test_verify_can_be_stopped(tmp_path: Path) -> None:
    """A stop asked for while files are checked ends the check with the signal's status, not with a verdict."""
    source, target = fill(tmp_path / "source"), tmp_path / "target"
    populate_cache(str(source), target, progress=quiet())
    progress = quiet()
    progress.stop_signal = signal.SIGTERM
    with pytest.raises(Interrupted) as caught:
        verify_cache(target, level="full", progress=progress)

    assert 143 == caught.value.status


def test_a_signal_to_the_whole_group_ends_gently(tmp_path: Path) -> None:
    """Schedulers signal process groups: workers leave it to the parent, which ends with 143."""
    fill(tmp_path / "source", size=2_000_000)
    with S3Server(tmp_path / "source", bytes_per_second=1_000_000) as server:
        options = ["s3://bucket", tmp_path / "target", "--endpoint-url", server.url, "--part-size", "256KiB"]
        process = start("sync", *options, "--processes", 2)
        while server.stats()["bytes"] < 500_000:
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in [*map(int, children), process.pid]:
            os.kill(pid, signal.SIGTERM)
        process.communicate(timeout=60)

    assert children
    assert 143 == process.returncode


def test_a_filesystem_of_this_process_is_never_given_to_others(tmp_path: Path) -> None:
    """memory:// with worker processes asked for is read by threads, since it lives in this process."""
    fsspec.filesystem("memory").pipe_file("/review/train/a.npz", b"x" * 1000)
    report = populate_cache("memory://review", tmp_path / "target", processes=2, progress=quiet())

    assert (0, 1) == (report.exit_code, report.files_copied)


def test_a_file_may_take_the_place_of_a_folder_that_was_emptied(tmp_path: Path) -> None:
    """Deleting the last file of a folder removes the folder, so that its name is free."""
    source, target = fill(tmp_path / "source"), tmp_path / "target"
    (source / "old").mkdir()
    (source / "old" / "x").write_bytes(b"x")
    populate_cache(str(source), target, progress=quiet())
    (source / "old" / "x").unlink()
    (source / "old").rmdir()
    populate_cache(str(source), target, delete=True, max_delete=EVERYTHING, progress=quiet())
    (source / "old").write_bytes(b"file")
    report = populate_cache(str(source), target, progress=quiet())

    assert report.sealed
    assert tree(source) == tree(target)


def test_a_single_file_by_http(tmp_path: Path) -> None:
    """An http:// URL of one file is one file."""
    fill(tmp_path / "source")
    with S3Server(tmp_path / "source") as server:
        url = f"{server.url}/_index/bucket/train/a.npz"
        report = populate_cache(url, tmp_path / "target", progress=quiet())

    assert {"a.npz"} == set(tree(tmp_path / "target"))
    assert report.sealed


@pytest.mark.parametrize(("source", "target"), [("", "target"), ("source", "")])
def test_an_empty_name_is_no_place(tmp_path: Path, source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset variable on the command line is a usage error, not the current directory."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "source")
    with pytest.raises(UsageError):
        populate_cache(source, target, progress=quiet())

    assert ["source"] == [path.name for path in tmp_path.iterdir()]


def test_a_reader_that_leaves_early_changes_nothing(tmp_path: Path) -> None:
    """A result that nobody reads any more does not turn success into failure."""
    process = start("sync", fill(tmp_path / "source"), tmp_path / "target", "--json", "--quiet")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.wait(60)
    process.stderr.close()

    assert 0 == process.returncode


def test_leavings_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    """Drafts, trash and a journal that outlived the seal are gone after the next run, even an idle one."""
    source, target = fill(tmp_path / "source"), tmp_path / "target"
    populate_cache(str(source), target, progress=quiet())
    meta = target / META
    (meta / "seal.json.abc.draft").write_bytes(b"{")
    (meta / "trash" / "1" / "train").mkdir(parents=True)
    (meta / "trash" / "1" / "train" / "z").write_bytes(b"z")
    report = populate_cache(str(source), target, progress=quiet())

    assert report.sealed
    assert {"lock", "manifest.jsonl", "leftovers.jsonl", "seal.json", "partial"} == {p.name for p in meta.iterdir()}


def test_two_runs_in_one_process_leave_each_other_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies over HTTP in threads of one program both arrive whole."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    bucket = fill(tmp_path / "source", "abcdefghij", 300_000)
    reports: list[SyncReport] = []
    with S3Server(tmp_path / "source", checksum="crc64nvme") as server:
        access = Access(endpoint_url=server.url)

        def copy(name: str) -> None:
            reports.append(populate_cache("s3://bucket", tmp_path / name, access=access, progress=quiet()))

        threads = [threading.Thread(target=copy, args=(name,)) for name in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [True] * 3 == [report.sealed for report in reports]
    assert tree(bucket) == tree(tmp_path / "one") == tree(tmp_path / "two") == tree(tmp_path / "three")


def test_a_broken_record_is_told_and_is_no_file(tmp_path: Path) -> None:
    """A seal that cannot be read is named in the report, and the next run is as good as any."""
    source, target = fill(tmp_path / "source"), tmp_path / "target"
    populate_cache(str(source), target, progress=quiet())
    (target / META / "seal.json").write_bytes(b"no seal")
    report = populate_cache(str(source), target, progress=quiet())

    assert (True, 4, 0) == (report.sealed, report.files_unchanged, report.bytes_copied)
    assert 1 == len(report.notes)
    assert "seal.json" in report.notes[0]
