"""What SIGKILL leaves of a pack, and how the next run goes on."""

from pathlib import Path

import pytest

from tests.support.killpack import killed_runs


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_pack_goes_on_to_the_same_bytes(room: Path):
    """However often SIGKILL comes, the store ends as the one of an unbroken run, and is sealed only then."""
    runs = list(killed_runs(5, 21, room))

    assert sum(made.amid for made in runs) > 0, "no kill hit the middle of a pack: the test has shown nothing"
    assert any(made.kept for made in runs), "no run went on from what an earlier one had packed"
