"""What errors must be: with a hint, with an exit code, and the same after a trip between processes."""

import pickle

import pytest

from tusz_cache import errors
from tusz_cache.errors import EXIT_CODES, CacheError, Interrupted, exit_status

KINDS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CacheError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling(kind: type[CacheError]):
    """What a worker process raises arrives with its class, message, hint and exit status."""
    error = kind("what", hint="do that")
    back = pickle.loads(pickle.dumps(error))

    assert (kind, "what", "do that") == (type(back), str(back), back.hint)
    assert exit_status(error) == exit_status(back)


@pytest.mark.parametrize("signum", [2, 15])
def test_an_interruption_keeps_its_signal(signum: int):
    """An interruption's exit status is 128 and the signal's number, also after a trip between processes."""
    error = Interrupted("stopped", hint="again", signum=signum)

    assert 128 + signum == exit_status(error)
    assert 128 + signum == exit_status(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_exit_status_is_documented(kind: type[CacheError]):
    """The status of each kind of error is one that the help explains."""
    assert exit_status(kind("what", hint="do that")) in EXIT_CODES


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_cannot_be_raised_without_a_hint(kind: type[CacheError]):
    """The hint is not optional."""
    with pytest.raises(TypeError):
        kind("what")
