"""Committer: one thread that gives whole files their final names, in groups, in the order that durability wants."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tusz_cache.copying.journal import Journal, kept_record
from tusz_cache.copying.transfer import Transfer
from tusz_cache.entry import Entry
from tusz_cache.errors import TargetError
from tusz_cache.ssd import Target, publish, sync_files

GROUP = 256  # files; one journal sync for as many as wait


@dataclass(frozen=True, slots=True)
class Committed:
    """Files that are durable under their final names, with proof."""

    copied: tuple[tuple[Transfer, Entry], ...] = ()
    kept: tuple[Entry, ...] = ()


class Committer:
    """Publishes what the engine hands over, and delivers it back as `Committed`, or the error that stopped it."""

    def __init__(self, target: Target, journal: Journal, deliver: Callable[[Committed | BaseException], None]) -> None:
        self._target, self._journal, self._deliver = target, journal, deliver
        self._queue: queue.SimpleQueue[Transfer | Entry | None] = queue.SimpleQueue()
        # under their final names, but not yet recorded (policy "commit")
        self._copied: list[tuple[Transfer, Entry]] = []
        self._kept: list[Entry] = []
        self._bytes = 0
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def add(self, item: Transfer | Entry) -> None:
        """Take over a complete transfer, or an entry with proof whose file lies there already."""
        self._queue.put(item)

    def close(self) -> None:
        """Finish what was handed over, then end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._group():
                pass
            self._record(final=True)
        except BaseException as error:  # noqa: BLE001 - handed to the engine, which raises it
            self._deliver(error)

    def _group(self) -> bool:
        """Handle as many files as wait, at least one. Returns False after the last."""
        items = [self._queue.get()]
        while items[-1] is not None and len(items) < GROUP:
            try:
                items.append(self._queue.get_nowait())
            except queue.Empty:
                break
        transfers = [item for item in items if isinstance(item, Transfer)]
        kept = [item for item in items if isinstance(item, Entry)]
        if kept and self._target.durability.syncs:
            sync_files([self._target.path(entry.key) for entry in kept])
        if transfers:  # whose they are is known before they have their names
            self._journal.sync()
        stats = publish(self._target, [(item.partial, self._target.path(item.entry.key)) for item in transfers])
        for item, stat in zip(transfers, stats, strict=True):
            self._copied.append((item, replace(item.entry, proof=item.proof(stat.st_mtime_ns))))
        self._kept += kept
        self._bytes += sum(item.entry.size for item in transfers) + sum(entry.size for entry in kept)
        self._record(final=False)
        return items[-1] is not None

    def _record(self, *, final: bool) -> None:
        """Write the records of what survives by now, and deliver it."""
        policy = self._target.durability
        if not self._copied and not self._kept:
            return
        if policy.commit is not None:
            if not final and self._bytes < policy.every_bytes:
                return
            commit(policy.commit)
        records = [_done_record(item, entry) for item, entry in self._copied]
        self._journal.record([*records, *(kept_record(entry) for entry in self._kept)], sync=True)
        self._deliver(Committed(tuple(self._copied), tuple(self._kept)))
        self._copied, self._kept, self._bytes = [], [], 0


def _done_record(item: Transfer, entry: Entry) -> list[Any]:
    proof = entry.proof
    assert proof is not None
    return ["done", item.number, proof.crc64nvme, proof.verified, proof.mtime_ns, list(proof.part_crcs)]


def commit(call: Callable[[], None]) -> None:
    """Have a volume make durable what was written. Raises TargetError."""
    try:
        call()
    except Exception as error:
        hint = "run again: what was not committed is checked or fetched anew"
        raise TargetError(f"the volume did not commit: {error or type(error).__name__}", hint=hint) from error
