"""What populating takes: estimated from a plan, and told again with the time that was measured."""

import json
from datetime import date

import pytest

from tusz_cache import Manifest, Plan, read_prices
from tusz_cache.entry import Entry
from tusz_cache.populating import Population

TODAY = date(2026, 11, 24)
GB = 10**9


def plan(*sizes: int) -> Plan:
    return Plan(copy=Manifest.of(Entry(f"train/{number}", size, "e") for number, size in enumerate(sizes)))


def test_more_containers_take_less_time_and_no_more_money():
    """Twice the containers take half the time; egress and requests stay, and so do the containers' hours."""
    two, four = (Population.of(plan(200 * GB, 250 * GB), count, read_prices(), TODAY) for count in (2, 4))

    assert (2, 450 * GB) == (two.files, two.bytes)
    assert two.seconds == pytest.approx(2 * four.seconds)
    assert (two.egress, two.requests) == (four.egress, four.requests)
    assert two.compute == pytest.approx(four.compute)
    assert two.egress == pytest.approx(450 * GB * read_prices().usd("s3_egress"))
    assert "estimate" in two.as_text()


def test_the_measured_time_takes_the_place_of_the_estimate():
    """Containers cost what they ran, and the text says that it is no estimate any more."""
    before = Population.of(plan(450 * GB), 4, read_prices(), TODAY)
    after = before.took(3 * before.seconds)

    assert after.compute == pytest.approx(3 * before.compute)
    assert (before.egress, before.requests) == (after.egress, after.requests)
    assert "took" in after.as_text()
    assert "estimate" not in after.as_text()
    assert json.loads(after.as_json())["measured"] is True


def test_nothing_to_copy_costs_nothing():
    """An empty plan is no division by zero, and next to no money."""
    nothing = Population.of(plan(), 4, read_prices(), TODAY)

    assert (0, 0) == (nothing.files, nothing.bytes)
    assert nothing.egress + nothing.requests + nothing.compute == pytest.approx(0, abs=0.01)
    assert "0 files" in nothing.took(2.0).as_text()


def test_what_lies_there_is_no_egress():
    """Files that are only compared are work for the containers, and cost a request each, not their bytes."""
    held = Plan(check=Manifest.of([Entry("train/a", 450 * GB, "e"), Entry("train/b", GB, "e")]))
    told = Population.of(held, 4, read_prices(), TODAY)

    assert (0, 0, 2, True) == (told.files, told.bytes, told.checks, told.has_work)
    assert told.egress == pytest.approx(0, abs=0.01)
    assert told.requests == pytest.approx(2 * read_prices().usd("s3_requests"))
    assert "2 to check" in told.as_text()
    assert not Population.of(plan(), 4, read_prices(), TODAY).has_work
