"""One process at a time writes a run: two would cut each other's metrics and prune each other's checkpoints."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tusz_cache import Durability, ssd
from tusz_cache.disk_errors import translated
from tusz_cache.errors import LockHeld
from tusz_cache.lock import locked
from tusz_cache.progress import Progress
from tusz_train.outputs import Outputs


@contextmanager
def alone(outputs: Outputs, durability: Durability, watcher: Progress) -> Iterator[None]:
    """Hold the lock of a run's name; it ends with this process, however that ends.

    The note of another machine, which may be gone, is waited for until it lapses. Raises LockHeld, TargetError,
    Interrupted.
    """
    target = ssd.Target(outputs.run, durability)
    with translated(target.root):
        ssd.make_directories([target.meta])
    told = False

    def waiting() -> None:
        nonlocal told
        watcher.check_stop("stopped while waiting for another machine's lock")
        if not told:
            watcher.say(f"the lock of {outputs.name} was left by another machine: waiting until it lapses")
        told = True

    with ExitStack() as stack:
        try:
            stack.enter_context(locked(target, waiting))
        except LockHeld as error:
            raise LockHeld(
                f"the run {outputs.name} is under way: {error}", hint=f"{error.hint}; or give another run.name"
            ) from error
        yield
    if durability.commit is not None:
        durability.commit()  # so that other machines see that the lock is free
