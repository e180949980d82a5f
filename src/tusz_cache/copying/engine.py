"""Engine: carries a plan out. One thread decides, a pool of workers moves bytes, a committer publishes.

Every message comes through one inbox: results of orders, opened files, committed files, errors.
"""

import heapq
import itertools
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from tusz_cache.checksum import combine_crc64nvme
from tusz_cache.copying.committer import Committed, Committer
from tusz_cache.copying.journal import Journal, OpenFile
from tusz_cache.copying.lanes import BLOCK, BUFFER, Done, Failed, Order, Piece, Recheck
from tusz_cache.copying.opening import Opened, Renewed, open_for_check, open_for_copy, renew
from tusz_cache.copying.pool import Pool
from tusz_cache.copying.rate import Concurrency, backoff, pace
from tusz_cache.copying.transfer import Transfer, Verdict, hash_ranges, judge_digests
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import (
    BadResponse,
    CacheError,
    Forbidden,
    ForeignTarget,
    Interrupted,
    NoSpace,
    TargetError,
    Throttled,
)
from tusz_cache.plan import Plan
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Source

OPENERS = 8  # threads that ask the control plane
UNCOMMITTED = 512  # files fetched but not yet durable; beyond, fetching waits for the disk
WRONG_WHOLES = 2  # times that a file is fetched again because its whole checksum was wrong
REFUSALS = 3  # 403 for one file, with fresh signatures in between
TICK = 0.2  # seconds between two looks at the clock and the stop flag


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySettings:
    """How to move bytes."""

    workers: int
    processes: int
    part_size: int  # bytes
    retries: int
    stall_timeout: float  # seconds
    bwlimit: int | None  # bytes per second
    adopt: bool = False  # replace files that this tool never wrote


class Watcher(Protocol):
    """Who is told of progress, and may ask to stop."""

    @property
    def stop_signal(self) -> int | None:
        """Number of the signal that asked to stop, if one did."""

    def advance(self, received: int, files: int = 0) -> None:
        """`received` more bytes and `files` more files are there."""


@dataclass(slots=True)
class Outcome:
    """What came of a plan."""

    copied: dict[str, Entry] = field(default_factory=dict)
    adopted: dict[str, Entry] = field(default_factory=dict)
    failures: dict[str, CacheError] = field(default_factory=dict)
    resumed: int = 0  # of `copied`: files that an earlier run had begun
    received: int = 0  # bytes that count
    refetched: int = 0  # bytes that had to come twice
    retries: int = 0
    throttled: int = 0


@dataclass(slots=True)
class _Check:
    """A file in the target that may be what the source has."""

    entry: Entry
    opened: Opened


class Engine:
    """One run of a plan. Use `copy`."""

    def __init__(
        self,
        source: Source,
        target: Target,
        journal: Journal,
        settings: CopySettings,
        watcher: Watcher,
        share: tuple[int, ...],
    ) -> None:
        self.source, self.target, self.journal, self.settings, self.watcher = source, target, journal, settings, watcher
        self.outcome = Outcome()
        self.inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.rate = Concurrency(settings.workers)
        self.pool = Pool(self.inbox.put, settings.workers, settings.processes, share=share)
        self.committer = Committer(target, journal, self.inbox.put)
        self.openers = ThreadPoolExecutor(OPENERS, thread_name_prefix="open")
        self.tickets = itertools.count()
        self.orders: dict[int, tuple[Order, Transfer | _Check]] = {}
        self.ready: deque[Transfer] = deque()  # with parts to fetch
        self.later: list[tuple[float, int, Transfer, int]] = []  # heap: (when, tie breaker, transfer, part)
        self.opening = 0
        self.committing = 0
        self.claims: Mapping[str, OpenFile] = {}
        self.guests: frozenset[str] = frozenset()

    def copy(self, plan: Plan, here: Mapping[str, Entry], claims: Mapping[str, OpenFile]) -> Outcome:
        """Carry out `plan.copy` and `plan.check`.

        here: what the target holds, with proof where known. claims: files that an earlier run began.
        Raises: Interrupted; NoSpace and TargetError, which end everything; bugs of any thread.
        """
        self.claims, self.guests = claims, plan.guests if not self.settings.adopt else frozenset()
        todo: Iterator[Callable[[], Opened]] = itertools.chain(
            (partial(open_for_check, self.source, here[entry.key], entry) for entry in plan.check),
            (self._opener(entry) for entry in plan.copy),
        )
        with self.pool:
            try:
                self._loop(todo)
            finally:
                self.openers.shutdown(cancel_futures=True)
                self.committer.close()
                self._drain()
        self.outcome.throttled = self.rate.throttled
        if self.watcher.stop_signal is not None:
            raise Interrupted(
                "stopped by a signal; what is whole is kept",
                hint="run the same command again: it goes on from here",
                signum=self.watcher.stop_signal,
            )
        return self.outcome

    def _opener(self, entry: Entry, opened: Opened | None = None) -> Callable[[], Opened]:
        return partial(
            open_for_copy, self.source, self.target, entry, self.claims.get(entry.key), self.settings.part_size, opened
        )

    def _loop(self, todo: Iterator[Callable[[], Opened]]) -> None:
        more = True
        while True:
            stopping = self.watcher.stop_signal is not None
            if not stopping:
                more = more and self._open(todo)
                self._wake()
                self._issue()
            if not self.orders and (stopping or not (more or self.opening or self.ready or self.later)):
                return
            self._handle_next(TICK)

    def _open(self, todo: Iterator[Callable[[], Opened]]) -> bool:
        """Ask about more files, some ahead of the workers. Returns False at the end of the plan."""
        ahead = 2 * self.settings.workers
        # with policy "commit" nothing is durable before the end of a round, so there waiting would never end
        room = UNCOMMITTED if self.target.durability.commit is None else sys.maxsize
        while self.opening + len(self.ready) < ahead and self.committing < room:
            task = next(todo, None)
            if task is None:
                return False
            self._submit(task)
        return True

    def _submit(self, task: Callable[[], Opened | Renewed]) -> None:
        self.opening += 1
        self.openers.submit(task).add_done_callback(self._arrived)

    def _arrived(self, future: Future[Opened | Renewed]) -> None:
        if not future.cancelled():
            self.inbox.put(future.exception() or future.result())

    def _wake(self) -> None:
        """Put parts whose pause is over back in line."""
        now = time.monotonic()
        while self.later and self.later[0][0] <= now:
            _, _, transfer, index = heapq.heappop(self.later)
            self._again(transfer, index)

    def _again(self, transfer: Transfer, index: int) -> None:
        if not transfer.failed:
            transfer.todo.appendleft(index)
            self._line_up(transfer)

    def _line_up(self, transfer: Transfer) -> None:
        if transfer.todo and transfer.fetch is not None and transfer not in self.ready:
            self.ready.appendleft(transfer)

    def _issue(self) -> None:
        """Hand out parts, as many as may be under way. The files begun first are finished first."""
        serial = self.target.durability.front_to_back
        waiting = []
        while self.ready and len(self.orders) < int(self.rate.limit):
            transfer = self.ready.popleft()
            if serial and transfer.in_flight:
                waiting.append(transfer)
                continue
            self._send(transfer, transfer.todo.popleft())
            if transfer.todo:
                self.ready.appendleft(transfer)
        self.ready.extendleft(reversed(waiting))

    def _send(self, transfer: Transfer, index: int) -> None:
        assert transfer.fetch is not None
        serial, settings = self.target.durability.front_to_back, self.settings
        remaining = len(self.orders) + 1 + sum(len(other.todo) + 1 for other in self.ready) + len(transfer.todo)
        transfer.in_flight += 1
        self._order(
            Piece(
                ticket=next(self.tickets),
                entry=transfer.entry,
                fetch=transfer.fetch,
                partial=transfer.partial,
                start=index * transfer.part_size,
                length=transfer.lengths[index],
                algorithm=transfer.algorithm,
                create=transfer.is_single,
                preallocate=not serial,
                stall=settings.stall_timeout,
                pace=pace(settings.bwlimit, settings.workers, remaining),
                block=BLOCK if serial else BUFFER,
            ),
            transfer,
        )

    def _order(self, order: Order, subject: Transfer | _Check) -> None:
        self.orders[order.ticket] = (order, subject)
        self.pool.submit(order)

    # messages

    def _handle_next(self, timeout: float) -> None:
        try:
            message = self.inbox.get(timeout=timeout)
        except queue.Empty:
            return
        self._handle(message)

    def _drain(self) -> None:
        """Take in what the committer delivered last."""
        while True:
            try:
                message = self.inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(message, Committed | BaseException):
                self._handle(message)

    def _handle(self, message: object) -> None:
        match message:
            case Opened():
                self.opening -= 1
                self._opened(message)
            case Renewed(transfer=transfer, error=error):
                self.opening -= 1
                if error is not None:
                    self._fail(transfer, error)
                self._line_up(transfer)
            case Done() | Failed():
                order, subject = self.orders.pop(message.ticket)
                if isinstance(subject, _Check):
                    self._checked(subject, message)
                elif isinstance(order, Recheck):
                    self._rechecked(subject, order, message)
                elif isinstance(order, Piece):
                    subject.in_flight -= 1
                    self._fetched(subject, order, message)
            case Committed():
                self._committed(message)
            case BaseException():
                raise message
            case _:
                raise AssertionError(message)

    def _opened(self, opened: Opened) -> None:
        if opened.error is not None:
            self._fail_key(opened.entry.key, opened.error)
        elif opened.transfer is not None:
            self._start(opened.transfer, opened.claim)
        elif opened.facts is not None:
            self._begin_check(_Check(opened.entry, opened))

    def _start(self, transfer: Transfer, claim: OpenFile | None) -> None:
        lengths = transfer.lengths
        if claim is None:
            transfer.number = self.journal.number()
            self._record_start(transfer)
        claimed = claim.parts if claim else {}
        believed = [index for index, length in enumerate(lengths) if claimed.get(index, (-1, 0))[0] == length]
        transfer.todo.extend(sorted(set(range(len(lengths))) - set(believed)))
        if believed:
            ranges = tuple((index * transfer.part_size, lengths[index]) for index in believed)
            self._order(Recheck(next(self.tickets), transfer.partial, ranges, transfer.algorithm), transfer)
        else:
            self.ready.append(transfer)

    def _record_start(self, transfer: Transfer) -> None:
        entry = transfer.entry
        self.journal.record([["file", transfer.number, entry.key, entry.size, entry.etag, transfer.part_size]])

    def _rechecked(self, transfer: Transfer, order: Recheck, result: Done | Failed) -> None:
        """Parts that an earlier run claimed were read back: keep those whose checksum is as claimed."""
        claimed = self.claims[transfer.entry.key].parts
        indices = [start // transfer.part_size for start, _ in order.ranges]
        found = list(zip(result.crcs, result.digests, strict=True)) if isinstance(result, Done) else []
        for place, index in enumerate(indices):
            if place < len(found) and found[place][0] == claimed[index][1]:
                transfer.resumed = True
                self._have(transfer, index, *found[place])
                self.watcher.advance(transfer.lengths[index])
            else:
                transfer.todo.append(index)
        if transfer.is_complete:
            self._settle(transfer)
        else:
            self.ready.appendleft(transfer)

    def _have(self, transfer: Transfer, index: int, crc: int, digest: bytes) -> None:
        transfer.crcs[index] = crc
        if digest:
            transfer.digests[index] = digest
        self.journal.record([["part", transfer.number, index, transfer.lengths[index], crc]])

    def _fetched(self, transfer: Transfer, piece: Piece, result: Done | Failed) -> None:
        index = piece.start // transfer.part_size
        if isinstance(result, Failed):
            self.outcome.refetched += result.received
            if not transfer.failed:
                self._retry(transfer, piece, index, result.error)
            return
        self.rate.succeeded()
        transfer.refusals = 0
        transfer.received += result.received
        self.outcome.received += result.received
        self.watcher.advance(result.received)
        if transfer.expectation is None:
            transfer.expectation = result.expectation
        self._have(transfer, index, result.crcs[0], result.digests[0] if result.digests else b"")
        if transfer.is_complete:
            self._settle(transfer)

    def _retry(self, transfer: Transfer, piece: Piece, index: int, error: CacheError) -> None:
        if isinstance(error, NoSpace | TargetError):
            raise error  # nothing else would fare better
        self.outcome.retries += 1
        if isinstance(error, Forbidden):
            self._refused(transfer, piece, index, error)
            return
        if isinstance(error, Throttled):
            self.rate.refused(time.monotonic())
        attempt = transfer.attempts[index] = transfer.attempts.get(index, 0) + 1
        if not error.temporary or attempt > self.settings.retries:
            self._fail(transfer, error)
            return
        heapq.heappush(self.later, (time.monotonic() + backoff(attempt), next(self.tickets), transfer, index))

    def _refused(self, transfer: Transfer, piece: Piece, index: int, error: Forbidden) -> None:
        """A signed URL was refused: sign anew, then with credentials read anew, then give up."""
        transfer.todo.appendleft(index)
        if piece.fetch is not transfer.fetch:
            self._line_up(transfer)  # another part noticed first; it is renewed or being renewed
            return
        transfer.refusals += 1
        if transfer.refusals > REFUSALS:
            self._fail(transfer, error)
            return
        transfer.fetch = None
        if transfer in self.ready:
            self.ready.remove(transfer)
        self._submit(partial(renew, self.source, transfer))

    def _settle(self, transfer: Transfer, verdict: Verdict | None = None) -> None:
        """All parts are there: publish the file, read it back, or fetch it anew."""
        expected = transfer.expectation
        verdict = verdict or transfer.judge()
        if verdict is Verdict.UNKNOWN:
            self._read_back(transfer)
        elif verdict is Verdict.PROVEN:
            self.committing += 1
            self.committer.add(transfer)
        else:
            self._wrong(transfer)

    def _read_back(self, transfer: Transfer) -> None:
        """Hash the whole partial file: the stream could not tell, because the source's parts are cut elsewhere."""
        expected = transfer.expectation
        assert expected is not None
        if expected.parts and not transfer.source_parts:
            transfer.source_parts = self._true_parts(transfer, expected.parts)
        if not transfer.failed:
            ranges = hash_ranges(transfer.entry.size, expected, transfer.source_parts)
            check = _Check(transfer.entry, Opened(transfer.entry, transfer=transfer))
            self._order(Recheck(next(self.tickets), transfer.partial, ranges, expected.algorithm), check)

    def _true_parts(self, transfer: Transfer, count: int) -> tuple[int, ...]:
        try:
            return self.source.part_sizes(transfer.entry, count)
        except CacheError as error:
            self._fail(transfer, error)
            return ()

    def _wrong(self, transfer: Transfer) -> None:
        expected = transfer.expectation
        if expected is not None and expected.parts:
            sizes = self._true_parts(transfer, expected.parts)
            if transfer.failed:
                return
            if sizes != transfer.source_parts and sum(sizes) == transfer.entry.size:
                transfer.source_parts = sizes  # the parts were not of one length: judge again by the true ones
                self._read_back(transfer)
                return
        transfer.wrong += 1
        self.outcome.retries += 1
        self.outcome.received -= transfer.received
        self.outcome.refetched += transfer.received
        transfer.received = 0
        self.watcher.advance(-transfer.entry.size)
        if transfer.wrong > WRONG_WHOLES:
            hint = "the object at the source or the way to it is damaged: compare its checksum there"
            self._fail(
                transfer, BadResponse(f"{transfer.entry.key!r}: the bytes do not have the source's checksum", hint=hint)
            )
            return
        transfer.start_over()
        self._record_start(transfer)  # what was claimed of it before no longer holds
        self._line_up(transfer)

    # files that lie in the target already

    def _begin_check(self, check: _Check) -> None:
        facts, known = check.opened.facts, check.opened.here
        assert facts is not None
        expected = facts.expectation
        if expected.algorithm is None:
            self._replace(check)
        elif known is not None and expected.algorithm == "crc64nvme" and not expected.parts:
            same = known.crc64nvme.to_bytes(8, "big") == expected.digest
            self._keep(check, replace(known, verified=expected.level)) if same else self._replace(check)
        else:
            path = self.target.path(check.entry.key)
            ranges = hash_ranges(facts.size, expected, facts.part_sizes)
            self._order(Recheck(next(self.tickets), path, ranges, expected.algorithm), check)

    def _checked(self, check: _Check, result: Done | Failed) -> None:
        """A file was read back and hashed: one being fetched, or one that lay there."""
        transfer = check.opened.transfer
        if transfer is not None:
            assert transfer.expectation is not None
            if isinstance(result, Failed):
                self._fail(transfer, result.error)
            else:
                self._settle(transfer, judge_digests(transfer.expectation, result.digests))
            return
        facts = check.opened.facts
        assert facts is not None
        if isinstance(result, Failed) or judge_digests(facts.expectation, result.digests) is not Verdict.PROVEN:
            self._replace(check)
            return
        lengths = [length for _, length in hash_ranges(facts.size, facts.expectation, facts.part_sizes)]
        crc = combine_crc64nvme(zip(result.crcs, lengths, strict=True))
        mtime_ns = self.target.path(check.entry.key).stat().st_mtime_ns
        self._keep(check, Proof(crc, facts.expectation.level, mtime_ns))

    def _keep(self, check: _Check, proof: Proof) -> None:
        self.committing += 1
        self.committer.add(replace(check.entry, proof=proof))

    def _replace(self, check: _Check) -> None:
        key = check.entry.key
        if key in self.guests:
            hint = "move it away, or pass --adopt to replace it"
            self._fail_key(
                key,
                ForeignTarget(f"{key!r} in the target is not the source's, and this tool never wrote it", hint=hint),
            )
        else:
            self._submit(self._opener(check.entry, check.opened))

    # ends

    def _committed(self, message: Committed) -> None:
        self.committing -= len(message.copied) + len(message.kept)
        for transfer, entry in message.copied:
            self.outcome.copied[entry.key] = entry
            self.outcome.resumed += transfer.resumed
        for entry in message.kept:
            self.outcome.adopted[entry.key] = entry
            self.watcher.advance(entry.size)
        self.watcher.advance(0, len(message.copied) + len(message.kept))

    def _fail(self, transfer: Transfer, error: CacheError) -> None:
        transfer.failed = True
        transfer.todo.clear()
        if transfer in self.ready:
            self.ready.remove(transfer)
        self._fail_key(transfer.entry.key, error)

    def _fail_key(self, key: str, error: CacheError) -> None:
        if isinstance(error, NoSpace | TargetError):
            raise error
        self.outcome.failures[key] = error
