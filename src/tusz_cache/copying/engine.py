"""Engine: carries a plan out. One thread decides; workers move bytes, openers ask and read back, a committer publishes.

Every message comes through one inbox: pieces fetched or failed, answers of openers, files committed, bugs.
"""

import queue
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tusz_cache.copying.asking import Answers, Asking, Task, one, tasks
from tusz_cache.copying.committer import Committed, Committer
from tusz_cache.copying.dispatch import Dispatch, Flight
from tusz_cache.copying.journal import Journal, OpenFile
from tusz_cache.copying.opening import Answer, Judged, Opened, Opener, Renewed
from tusz_cache.copying.pieces import Failed, Fetched, Skipped
from tusz_cache.copying.rate import OUTAGE, Weather, backoff
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

UNCOMMITTED = 512  # files fetched but not yet durable; beyond, fetching waits for the disk
WRONG_WHOLES = 2  # times that a file is fetched again because its whole checksum was wrong
REFUSALS = 3  # 403 for one file, with fresh signatures in between
MISSED = 8  # parts in a row that must fail at least before the store is to blame
PATIENCE = 5  # more tries of a part that the store only asks to wait with, while the number of requests comes down
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
        # with policy "commit" nothing is durable before the end of a round, so there waiting would never end
        self._room = UNCOMMITTED if target.durability.commit is None else sys.maxsize
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._opener = Opener(source, target, settings.part_size)
        self._asking = Asking(self._inbox.put)
        front_to_back = target.durability.front_to_back
        self._dispatch = Dispatch(self._inbox.put, settings, front_to_back=front_to_back, share=share)
        self._line = self._dispatch.line
        self._committer = Committer(target, journal, self._inbox.put)
        self._notes: list[Sequence[Any]] = []  # for the journal, before anything is published
        self._whole: list[Transfer | Entry] = []  # for the committer
        self._committing = 0  # files that the committer owes
        self._weather = Weather()

    def copy(
        self, plan: Plan, here: Manifest, claims: Mapping[str, OpenFile], retimed: Manifest | None = None
    ) -> Outcome:
        """Carry out `plan.copy` and `plan.check`.

        here: what the target holds, with proof where known. claims: files that an earlier run began. retimed: records
        of files that differ from them in time only.
        Raises: Interrupted; NoSpace, TargetError and Unreachable, which end everything; bugs of any thread.
        """
        guests = frozenset() if self._settings.adopt else plan.guests
        todo = tasks(self._opener, plan, here, claims, retimed=retimed or Manifest(), guests=guests)
        with self._dispatch:
            try:
                self._loop(todo)
            finally:
                self._asking.close()
                self._committer.close()
                self._take_in_commits()
        self.outcome.throttled = self._dispatch.rate.throttled
        if (signum := self._watcher.stop_signal) is not None:
            hint = "run the same command again: it goes on from here"
            raise Interrupted("stopped by a signal; what is whole is kept", hint=hint, signum=signum)
        return self.outcome

    def _loop(self, todo: Iterator[Task]) -> None:
        more = True
        while True:
            stopping = self._watcher.stop_signal is not None
            if not stopping:
                more = more and self._open(todo)
                now = time.monotonic()
                self._dispatch.issue(now)
                if not more and not self._asking.owed:
                    self._dispatch.cut_stragglers(now)
            else:
                self._dispatch.wind_down()
            if self._dispatch.is_idle and (stopping or not (more or self._asking.owed or self._line)):
                return
            try:
                message = self._inbox.get(timeout=TICK)
            except queue.Empty:
                continue
            self._handle(message)
            self._hand_over()

    # handing out work

    def _open(self, todo: Iterator[Task]) -> bool:
        """Ask about more files, some ahead of the workers. Returns False at the end of the plan."""
        while self._asking.owed + self._line.orders < 2 * self._dispatch.at_once and self._committing < self._room:
            task = next(todo, None)
            if task is None:
                return False
            self._asking.ask(task)
        return True

    # taking in messages

    def _handle(self, message: object) -> None:
        match message:
            case list():
                for flight, result in self._dispatch.take(message, time.monotonic()):
                    match result:
                        case Fetched():
                            self._fetched(flight, result)
                        case Failed():
                            self._missed(flight, result)
                        case Skipped():
                            self._again(flight)
            case Answers():
                self._asking.owed -= 1
                for answer in message.answers:
                    self._take_answer(answer)
            case Committed():
                self._committed(message)
            case BaseException():
                raise message
            case _:
                raise AssertionError(message)

    def _hand_over(self) -> None:
        """Write to the journal what a message brought; only then may the committer publish what is whole."""
        if self._notes:
            self._journal.record(self._notes)
            self._notes = []
        for item in self._whole:
            self._committer.add(item)
        self._committing += len(self._whole)
        self._whole = []

    def _take_answer(self, answer: Answer) -> None:
        match answer:
            case Opened(error=CacheError() as error):
                self._fail(answer.entry.key, error)
            case Opened(kept=Entry() as entry):
                self._whole.append(entry)
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
        if not transfer.is_single:
            self._note(transfer)
        if transfer.is_complete:
            self._settle(transfer, transfer.judge())
        else:
            self._line.append(transfer)

    def _note(self, transfer: Transfer) -> None:
        """Tell the journal of a file. One that comes in a single part is noted with it: nothing would be resumed."""
        if transfer.number is None:
            transfer.number, entry = self._journal.number(), transfer.entry
            self._notes.append(["file", transfer.number, entry.key, entry.size, entry.etag, transfer.part_size])

    def _fetched(self, flight: Flight, result: Fetched) -> None:
        transfer, index = flight.transfer, flight.index
        self._weather.succeeded()
        self._watcher.advance(result.received)
        self.outcome.received += result.received
        transfer.received += result.received
        transfer.refusals = 0
        if transfer.expectation is None:
            transfer.expectation = result.expectation
        transfer.have(index, result.crc, result.digest)
        self._note(transfer)
        self._notes.append(["part", transfer.number, index, transfer.lengths[index], result.crc])
        if transfer.is_complete and not transfer.failed:
            self._settle(transfer, transfer.judge())

    def _settle(self, transfer: Transfer, verdict: Verdict) -> None:
        """All parts are there: publish the file, read it back, or fetch it anew."""
        if verdict is Verdict.PROVEN:
            self._whole.append(transfer)
        elif verdict is Verdict.UNKNOWN or (transfer.is_composite and not transfer.reread):
            transfer.reread = True
            self._asking.ask(one(self._opener.judge, transfer))
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

    def _again(self, flight: Flight) -> None:
        """Let a part stand in front of the line once more, at no charge."""
        if not flight.transfer.failed:
            flight.transfer.put_back(flight.index)
            self._line.rejoin(flight.transfer)

    def _missed(self, flight: Flight, result: Failed) -> None:
        error, transfer, index = result.error, flight.transfer, flight.index
        self.outcome.refetched += result.received
        if isinstance(error, NoSpace | TargetError):
            raise error  # no other file would fare better
        if transfer.failed:
            return
        self.outcome.retries += 1
        if flight.cut_at > flight.began and index not in transfer.cut:  # a straggler: asked for again, at no charge
            transfer.cut.add(index)
            self._again(flight)
            return
        if isinstance(error, Forbidden):
            self._refused(flight, error)
            return
        now = time.monotonic()
        if isinstance(error, Throttled):
            self._dispatch.rate.refused(now)
        self._weather.missed(transfer.entry.key, index, now)
        attempt = transfer.attempts[index] = transfer.attempts.get(index, 0) + 1
        allowed = self._settings.retries + (PATIENCE if isinstance(error, Throttled) else 0)
        if error.temporary and (attempt <= allowed or self._waits_out(error)):
            self._line.pause(transfer, index, now + backoff(attempt))
        else:
            self._give_up(transfer, error)

    def _waits_out(self, error: CacheError) -> bool:
        """Whether the store fails as a whole, so that only time helps. Raises Unreachable if that lasts too long."""
        lasted = (
            None
            if isinstance(error, BadResponse)
            else self._weather.storm(time.monotonic(), max(MISSED, self._dispatch.at_once))
        )
        if lasted is not None and lasted > OUTAGE:
            raise Unreachable(f"nothing came for {OUTAGE:.0f} s; the last answer: {error}", hint=error.hint)
        return lasted is not None

    def _refused(self, flight: Flight, error: Forbidden) -> None:
        """A signed URL was refused: sign anew, then with credentials read anew, then give up."""
        transfer = flight.transfer
        transfer.put_back(flight.index)
        if flight.piece.fetch is not transfer.fetch:
            self._line.rejoin(transfer)  # another part noticed first: it is renewed, or will be
            return
        transfer.refusals += 1
        if transfer.refusals > REFUSALS:
            self._give_up(transfer, error)
            return
        transfer.fetch = None
        self._line.leave(transfer)
        self._asking.ask(one(self._opener.renew, transfer))

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
