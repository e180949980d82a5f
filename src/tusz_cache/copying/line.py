"""The line of parts to fetch: which go next, which wait before another attempt. Decisions only, no clock, no I/O."""

import heapq
import itertools
from collections import deque

from tusz_cache.copying.transfer import Transfer

SMALL = 256 * 1024  # bytes; of files up to this size a worker gets several at once
BATCH = 16  # small files that make one order


def is_small(size: int) -> bool:
    """Whether a file of `size` bytes costs more to talk about than to fetch."""
    return size <= SMALL


class Line:
    """Transfers with parts to fetch, those begun first in front."""

    def __init__(self, *, front_to_back: bool) -> None:
        """front_to_back: a file's parts go one at a time and in order, as a volume with policy "commit" wants it."""
        self._front_to_back = front_to_back
        self._ready: dict[Transfer, None] = {}  # an ordered set
        self._first: deque[Transfer] = deque()  # those that came back: they go before the others
        self._small = 0  # of all that are ready
        self._later: list[tuple[float, int, Transfer, int]] = []  # heap: (when, tie breaker, transfer, part)
        self._ties = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._ready or self._first or self._later)

    @property
    def orders(self) -> float:
        """Large files that stand in line, and batches of small ones."""
        return len(self._ready) + len(self._first) - self._small + self._small / BATCH

    @property
    def bytes(self) -> int:
        """About how many bytes of large files stand in line. Counts them, file by file."""
        files = (file for file in (*self._first, *self._ready) if not is_small(file.entry.size))
        return sum(len(file.todo) * file.part_size for file in files)

    @property
    def waiting(self) -> int:
        """Parts of large files that stand in line, and batches of small ones. Counts them, file by file."""
        large = sum(len(file.todo) for file in (*self._first, *self._ready) if not is_small(file.entry.size))
        return large + -(-self._small // BATCH)

    def append(self, transfer: Transfer) -> None:
        """Let a new transfer stand at the end."""
        self._ready[transfer] = None
        self._small += is_small(transfer.entry.size)

    def rejoin(self, transfer: Transfer) -> None:
        """Let a transfer that may have left stand in front, if it has parts to fetch and a way to fetch them."""
        if transfer.todo and transfer.fetch is not None and transfer not in self._ready and transfer not in self._first:
            self._first.appendleft(transfer)
            self._small += is_small(transfer.entry.size)

    def leave(self, transfer: Transfer) -> None:
        """Take a transfer out."""
        if transfer in self._ready:
            del self._ready[transfer]
        elif transfer in self._first:
            self._first.remove(transfer)
        else:
            return
        self._small -= is_small(transfer.entry.size)

    def pause(self, transfer: Transfer, index: int, until: float) -> None:
        """Let a part wait until the time `until` before it stands in line again."""
        transfer.pausing += 1
        heapq.heappush(self._later, (until, next(self._ties), transfer, index))

    def wake(self, now: float) -> None:
        """Put parts whose pause is over back in line."""
        while self._later and self._later[0][0] <= now:
            _, _, transfer, index = heapq.heappop(self._later)
            transfer.pausing -= 1
            if not transfer.failed:
                transfer.put_back(index)
                self.rejoin(transfer)

    def pop(self, most: int = 0) -> list[tuple[Transfer, int]]:
        """Take the next order out: a part and those that follow it, up to `most` bytes, or several small files.

        Empty if nothing may go now.
        """
        order: list[tuple[Transfer, int]] = []
        for transfer in itertools.chain(self._first, self._ready):
            if self._front_to_back and (transfer.in_flight or transfer.pausing):
                continue
            small = is_small(transfer.entry.size)
            if order and not small:
                break
            order += [(transfer, index) for index in transfer.take(1 if small else max(1, most // transfer.part_size))]
            if not small or len(order) == BATCH:
                break
        for transfer in {transfer: None for transfer, _ in order}:
            if not transfer.todo:
                self.leave(transfer)
        return order
