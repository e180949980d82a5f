"""Asking: threads that do what an Opener can do, so that the engine never waits for it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from tusz_cache.copying.journal import OpenFile
from tusz_cache.copying.line import BATCH, is_small
from tusz_cache.copying.opening import Answer, Opener
from tusz_cache.entry import Entry
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Plan

OPENERS = 8  # threads that ask the control plane and read back

Task = Callable[[], Sequence[Answer]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a task brought."""

    answers: Sequence[Answer]


class Asking:
    """Carries tasks out, and delivers their Answers, or the bug that one met."""

    def __init__(self, deliver: Callable[[Answers | BaseException], None]) -> None:
        """deliver: called from other threads."""
        self._deliver = deliver
        self._threads = ThreadPoolExecutor(OPENERS, thread_name_prefix="open")
        self.owed = 0  # answers that are under way; the engine counts them down

    def ask(self, task: Task) -> None:
        """Have `task` carried out."""
        self.owed += 1
        self._threads.submit(task).add_done_callback(self._answered)

    def _answered(self, future: Future[Sequence[Answer]]) -> None:
        if not future.cancelled():
            self._deliver(future.exception() or Answers(future.result()))

    def close(self) -> None:
        """Wait for what is under way, forget the rest."""
        self._threads.shutdown(cancel_futures=True)


def one(ask: Callable[..., Answer], *arguments: Any, **options: Any) -> Task:
    """Return a task of a single question."""
    return lambda: (ask(*arguments, **options),)


def tasks(
    opener: Opener,
    plan: Plan,
    here: Manifest,
    claims: Mapping[str, OpenFile],
    *,
    retimed: Manifest,
    guests: frozenset[str],
) -> Iterator[Task]:
    """Yield what has to be asked to carry out `plan`. Arguments as Engine.copy; guests: keys not to be replaced."""
    for entry in plan.check:
        held, claim = here[entry.key], claims.get(entry.key)
        yield one(opener.for_check, entry, held, claim, retimed.get(entry.key), is_guest=entry.key in guests)
    for entries in _batches(plan.copy, claims):
        if len(entries) == 1:
            yield one(opener.for_copy, entries[0], claims.get(entries[0].key))
        else:
            yield partial(opener.for_copies, entries)


def _batches(entries: Iterable[Entry], claims: Mapping[str, OpenFile]) -> Iterator[list[Entry]]:
    """Yield neighbouring small files together; every other file, and one that was begun, for itself."""
    batch: list[Entry] = []
    for entry in entries:
        if not is_small(entry.size) or entry.key in claims:
            yield [entry]
            continue
        batch.append(entry)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
