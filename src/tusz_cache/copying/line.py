"""The line of parts to fetch: which comes next, which wait before another attempt. Decisions only, no clock, no I/O."""

import heapq
import itertools
from collections import deque

from tusz_cache.copying.transfer import Transfer


class Line:
    """Transfers with parts to fetch, those begun first in front."""

    def __init__(self, *, front_to_back: bool) -> None:
        """front_to_back: a file's parts go one at a time and in order, as a volume with policy "commit" wants it."""
        self._front_to_back = front_to_back
        self._ready: deque[Transfer] = deque()
        self._later: list[tuple[float, int, Transfer, int]] = []  # heap: (when, tie breaker, transfer, part)
        self._ties = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._ready or self._later)

    @property
    def files(self) -> int:
        """Files that stand in line."""
        return len(self._ready)

    @property
    def parts(self) -> int:
        """Parts that stand in line."""
        return sum(len(transfer.todo) for transfer in self._ready)

    def append(self, transfer: Transfer) -> None:
        """Let a new transfer stand at the end."""
        self._ready.append(transfer)

    def rejoin(self, transfer: Transfer) -> None:
        """Let a transfer that may have left stand in front, if it has parts to fetch and a way to fetch them."""
        if transfer.todo and transfer.fetch is not None and transfer not in self._ready:
            self._ready.appendleft(transfer)

    def leave(self, transfer: Transfer) -> None:
        """Take a transfer out."""
        if transfer in self._ready:
            self._ready.remove(transfer)

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
                transfer.todo.appendleft(index)
                self.rejoin(transfer)

    def pop(self) -> tuple[Transfer, int] | None:
        """Take the next part out, or return None if none may go now."""
        for transfer in self._ready:
            if self._front_to_back and (transfer.in_flight or transfer.pausing):
                continue
            index = transfer.todo.popleft()
            if not transfer.todo:
                self._ready.remove(transfer)
            return transfer, index
        return None
