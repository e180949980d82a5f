"""Engine: carries a plan out. One thread decides; workers move bytes, openers ask and read back, a committer publishes.

Every message comes through one inbox: pieces fetched or failed, answers of openers, files committed, bugs.
"""

import itertools
import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from tusz_cache.copying.committer import Committed, Committer
from tusz_cache.copying.journal import Journal, OpenFile
from tusz_cache.copying.lanes import BLOCK, BUFFER, Failed, Fetched, Piece
from tusz_cache.copying.line import Line
from tusz_cache.copying.opening import Answer, Judged, Opened, Opener, Renewed
from tusz_cache.copying.pool import Pool
from tusz_cache.copying.rate import OUTAGE, Concurrency, Weather, backoff, pace
from tusz_cache.copying.transfer import Transfer, Verdict
from tusz_cache.copying.values import CopySettings, Outcome, Watcher
from tusz_cache.entry import Entry
from tusz_cache.errors import (
    BadResponse,
    CacheError,
    Forbidden,
    Interrupted,
    NoSpace,
    TargetError,
    Throttled,
    Unreachable,
)
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Plan
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Source

OPENERS = 8  # threads that ask the control plane and read back
UNCOMMITTED = 512  # files fetched but not yet durable; beyond, fetching waits for the disk
WRONG_WHOLES = 2  # times that a file is fetched again because its whole checksum was wrong
REFUSALS = 3  # 403 for one file, with fresh signatures in between
TICK = 0.2  # seconds between two looks at the clock and the stop flag


class Engine:
    """One run of a plan. Use `copy`, once."""

    def __init__(
        self,
        source: Source,
        target: Target,
        journal: Journal,
        settings: CopySettings,
        watcher: Watcher,
        *,
        share: tuple[int, ...] = (),
    ) -> None:
        """share: file descriptors that workers keep open (the target's lock)."""
        self.outcome = Outcome()
        self._journal, self._settings, self._watcher = journal, settings, watcher
        self._front_to_back = target.durability.front_to_back
        # with policy "commit" nothing is durable before the end of a round, so there waiting would never end
        self._room = UNCOMMITTED if target.durability.commit is None else sys.maxsize
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._rate = Concurrency(settings.workers)
        self._opener = Opener(source, target, settings.part_size)
        self._threads = ThreadPoolExecutor(OPENERS, thread_name_prefix="open")
        self._pool = Pool(self._inbox.put, settings.workers, settings.processes, share=share)
        self._committer = Committer(target, journal, self._inbox.put)
        self._tickets = itertools.count()
        self._flying: dict[int, tuple[Piece, Transfer]] = {}
        self._line = Line(front_to_back=self._front_to_back)
        self._asked = 0  # answers that openers owe
        self._committing = 0  # files that the committer owes
        self._weather = Weather(settings.workers)

    def copy(self, plan: Plan, here: Manifest, claims: Mapping[str, OpenFile]) -> Outcome:
        """Carry out `plan.copy` and `plan.check`.

        here: what the target holds, with proof where known. claims: files that an earlier run began.
        Raises: Interrupted; NoSpace, TargetError and Unreachable, which end everything; bugs of any thread.
        """
        guests = frozenset() if self._settings.adopt else plan.guests
        check, copy = self._opener.for_check, self._opener.for_copy
        todo: Iterator[Callable[[], Opened]] = itertools.chain(
            (partial(check, e, here[e.key], claims.get(e.key), is_guest=e.key in guests) for e in plan.check),
            (partial(copy, e, claims.get(e.key)) for e in plan.copy),
        )
        with self._pool:
            try:
                self._loop(todo)
            finally:
                self._threads.shutdown(cancel_futures=True)
                self._committer.close()
                self._take_in_commits()
        self.outcome.throttled = self._rate.throttled
        if (signum := self._watcher.stop_signal) is not None:
            hint = "run the same command again: it goes on from here"
            raise Interrupted("stopped by a signal; what is whole is kept", hint=hint, signum=signum)
        return self.outcome

    def _loop(self, todo: Iterator[Callable[[], Opened]]) -> None:
        more = True
        while True:
            stopping = self._watcher.stop_signal is not None
            if not stopping:
                more = more and self._open(todo)
                self._line.wake(time.monotonic())
                self._issue()
            if not self._flying and (stopping or not (more or self._asked or self._line)):
                return
            try:
                message = self._inbox.get(timeout=TICK)
            except queue.Empty:
                continue
            self._handle(message)

    # handing out work

    def _open(self, todo: Iterator[Callable[[], Opened]]) -> bool:
        """Ask about more files, some ahead of the workers. Returns False at the end of the plan."""
        while self._asked + self._line.files < 2 * self._settings.workers and self._committing < self._room:
            task = next(todo, None)
            if task is None:
                return False
            self._ask(task)
        return True

    def _ask(self, task: Callable[[], Answer]) -> None:
        self._asked += 1
        self._threads.submit(task).add_done_callback(self._answered)

    def _answered(self, future: Future[Answer]) -> None:
        if not future.cancelled():
            self._inbox.put(future.exception() or future.result())

    def _issue(self) -> None:
        """Hand out parts, as many as may be under way."""
        while len(self._flying) < int(self._rate.limit) and (chosen := self._line.pop()) is not None:
            self._send(*chosen)

    def _send(self, transfer: Transfer, index: int) -> None:
        assert transfer.fetch is not None
        piece = Piece(
            ticket=next(self._tickets),
            entry=transfer.entry,
            fetch=transfer.fetch,
            partial=transfer.partial,
            start=index * transfer.part_size,
            length=transfer.lengths[index],
            algorithm=transfer.algorithm,
            create=transfer.is_single,
            preallocate=not self._front_to_back,
            stall=self._settings.stall_timeout,
            pace=pace(self._settings.bwlimit, self._settings.workers, len(self._flying) + 1 + self._line.parts),
            block=BLOCK if self._front_to_back else BUFFER,
        )
        transfer.in_flight += 1
        self._flying[piece.ticket] = (piece, transfer)
        self._pool.submit(piece)

    # taking in messages

    def _handle(self, message: object) -> None:
        match message:
            case Fetched() | Failed():
                piece, transfer = self._flying.pop(message.ticket)
                transfer.in_flight -= 1
                index = piece.start // transfer.part_size
                if isinstance(message, Fetched):
                    self._fetched(transfer, index, message)
                else:
                    self._missed(transfer, index, piece, message)
            case Opened() | Renewed() | Judged():
                self._asked -= 1
                self._take_answer(message)
            case Committed():
                self._committed(message)
            case BaseException():
                raise message
            case _:
                raise AssertionError(message)

    def _take_answer(self, answer: Answer) -> None:
        match answer:
            case Opened(error=CacheError() as error):
                self._fail(answer.entry.key, error)
            case Opened(kept=Entry() as entry):
                self._commit(entry)
            case Opened(transfer=Transfer() as transfer):
                self._watcher.advance(sum(transfer.lengths[index] for index in transfer.crcs))
                self._begin(transfer)
            case Renewed(error=CacheError() as error) | Judged(error=CacheError() as error):
                self._give_up(answer.transfer, error)
            case Renewed():
                self._line.rejoin(answer.transfer)
            case Judged():
                self._settle(answer.transfer, answer.verdict)

    def _begin(self, transfer: Transfer) -> None:
        if transfer.number is None:
            transfer.number, entry = self._journal.number(), transfer.entry
            self._journal.record([["file", transfer.number, entry.key, entry.size, entry.etag, transfer.part_size]])
        if transfer.is_complete:
            self._settle(transfer, transfer.judge())
        else:
            self._line.append(transfer)

    def _fetched(self, transfer: Transfer, index: int, result: Fetched) -> None:
        self._rate.succeeded()
        self._weather.succeeded()
        self._watcher.advance(result.received)
        self.outcome.received += result.received
        transfer.received += result.received
        transfer.refusals = 0
        if transfer.expectation is None:
            transfer.expectation = result.expectation
        transfer.have(index, result.crc, result.digest)
        self._journal.record([["part", transfer.number, index, transfer.lengths[index], result.crc]])
        if transfer.is_complete and not transfer.failed:
            self._settle(transfer, transfer.judge())

    def _settle(self, transfer: Transfer, verdict: Verdict) -> None:
        """All parts are there: publish the file, read it back, or fetch it anew."""
        if verdict is Verdict.PROVEN:
            self._commit(transfer)
        elif verdict is Verdict.UNKNOWN or (transfer.is_composite and not transfer.reread):
            transfer.reread = True
            self._ask(partial(self._opener.judge, transfer))
        else:
            self._fetch_anew(transfer)

    def _fetch_anew(self, transfer: Transfer) -> None:
        self.outcome.retries += 1
        self.outcome.received -= transfer.received
        self.outcome.refetched += transfer.received
        self._watcher.advance(-transfer.entry.size)
        transfer.wrong += 1
        if transfer.wrong > WRONG_WHOLES:
            hint = "the object at the source or the way to it is damaged: compare its checksum there"
            message = f"{transfer.entry.key!r}: the bytes do not have the source's checksum"
            self._give_up(transfer, BadResponse(message, hint=hint))
            return
        transfer.start_over()
        self._begin(transfer)  # recorded anew: what was claimed of it no longer holds

    def _missed(self, transfer: Transfer, index: int, piece: Piece, result: Failed) -> None:
        error = result.error
        self.outcome.refetched += result.received
        if isinstance(error, NoSpace | TargetError):
            raise error  # no other file would fare better
        if transfer.failed:
            return
        self.outcome.retries += 1
        if isinstance(error, Forbidden):
            self._refused(transfer, index, piece, error)
            return
        if isinstance(error, Throttled):
            self._rate.refused(time.monotonic())
        self._weather.missed(transfer.entry.key, index, time.monotonic())
        attempt = transfer.attempts[index] = transfer.attempts.get(index, 0) + 1
        if error.temporary and (attempt <= self._settings.retries or self._waits_out(error)):
            self._line.pause(transfer, index, time.monotonic() + backoff(attempt))
        else:
            self._give_up(transfer, error)

    def _waits_out(self, error: CacheError) -> bool:
        """Whether the store fails as a whole, so that only time helps. Raises Unreachable if that lasts too long."""
        lasted = None if isinstance(error, BadResponse) else self._weather.storm(time.monotonic())
        if lasted is not None and lasted > OUTAGE:
            raise Unreachable(f"nothing came for {OUTAGE:.0f} s; the last answer: {error}", hint=error.hint)
        return lasted is not None

    def _refused(self, transfer: Transfer, index: int, piece: Piece, error: Forbidden) -> None:
        """A signed URL was refused: sign anew, then with credentials read anew, then give up."""
        transfer.todo.appendleft(index)
        if piece.fetch is not transfer.fetch:
            self._line.rejoin(transfer)  # another part noticed first: it is renewed, or will be
            return
        transfer.refusals += 1
        if transfer.refusals > REFUSALS:
            self._give_up(transfer, error)
            return
        transfer.fetch = None
        self._line.leave(transfer)
        self._ask(partial(self._opener.renew, transfer))

    def _commit(self, item: Transfer | Entry) -> None:
        self._committing += 1
        self._committer.add(item)

    def _committed(self, message: Committed) -> None:
        self._committing -= len(message.copied) + len(message.kept)
        for transfer, entry in message.copied:
            self.outcome.copied.add(entry)
            self.outcome.resumed += transfer.resumed
        for entry in message.kept:
            self.outcome.adopted.add(entry)
            self._watcher.advance(entry.size)
        self._watcher.advance(0, len(message.copied) + len(message.kept))

    def _take_in_commits(self) -> None:
        """Handle what the committer delivered last."""
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, Committed | BaseException):
                self._handle(message)

    def _give_up(self, transfer: Transfer, error: CacheError) -> None:
        transfer.failed = True
        transfer.todo.clear()
        self._line.leave(transfer)
        self._fail(transfer.entry.key, error)

    def _fail(self, key: str, error: CacheError) -> None:
        if isinstance(error, NoSpace | TargetError):
            raise error
        self.outcome.failures[key] = error
