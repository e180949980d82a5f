"""What the line must be: every part goes once, small files together, what came back before what is new."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.copying.line import BATCH, SMALL, Line, is_small
from tusz_cache.copying.transfer import Transfer
from tusz_cache.entry import Entry
from tusz_cache.stores.base import LocalFetch

PART = 4 * SMALL


def transfer(number: int, size: int) -> Transfer:
    """Return a file of which nothing has come."""
    made = Transfer(Entry(f"k{number}", size, "e"), None, Path("p"), PART, fetch=LocalFetch(Path("s")))
    made.todo.extend(range(len(made.lengths)))
    return made


sizes = st.lists(st.integers(0, 3 * PART) | st.integers(0, SMALL), max_size=60)


@given(sizes, st.integers(1, 5))
def test_every_part_goes_once_and_in_order(found: list[int], most: int):
    """All parts of all files are handed out, each once, a file's parts in order, files in the order they came."""
    line = Line(front_to_back=False)
    files = [transfer(number, size) for number, size in enumerate(found)]
    for file in files:
        line.append(file)
    given_out = []
    while order := line.pop(most * PART):
        given_out += order
        small = is_small(order[0][0].entry.size)
        assert len(order) <= (BATCH if small else most)
        assert small or 1 == len({file for file, _ in order})

    assert [(file, index) for file in files for index in range(len(file.lengths))] == given_out
    assert not line
    assert 0 == line.orders


@given(sizes)
def test_only_small_files_share_an_order(found: list[int]):
    """An order is one part, or up to BATCH small files; neighbours go together as far as that allows."""
    line = Line(front_to_back=False)
    for number, size in enumerate(found):
        line.append(transfer(number, size))
    before: list[tuple[Transfer, int]] = []
    while order := line.pop():
        small = [is_small(file.entry.size) for file, _ in order]
        assert 1 == len(order) or all(small)
        assert len(order) <= BATCH
        if before and all(small) and all(is_small(file.entry.size) for file, _ in before):
            assert BATCH == len(before)
        before = order


def test_a_part_that_waited_goes_first():
    """When a pause is over the part goes before files that have not begun, and not earlier."""
    line = Line(front_to_back=False)
    first, second = transfer(0, 2 * PART), transfer(1, PART)
    line.append(first)
    line.append(second)
    [(_, index)] = line.pop()
    line.pause(first, index, until=5.0)
    line.wake(4.9)
    assert [(first, 1)] == line.pop()

    line.wake(5.0)
    assert [(first, 0)] == line.pop()
    assert [(second, 0)] == line.pop()
    assert [] == line.pop()


def test_a_volume_gets_one_part_of_a_file_at_a_time():
    """Front to back, a file's next part goes only when the one before has come."""
    line = Line(front_to_back=True)
    first, second = transfer(0, 2 * PART), transfer(1, 2 * PART)
    line.append(first)
    line.append(second)
    [(_, index)] = line.pop()
    first.in_flight = 1
    assert (0, [(second, 0)]) == (index, line.pop())
    second.in_flight = 1
    assert [] == line.pop()

    first.in_flight = 0
    assert [(first, 1)] == line.pop()


def test_a_file_that_failed_leaves():
    """A file that is given up takes its parts with it, those that pause as well."""
    line = Line(front_to_back=False)
    file = transfer(0, 3 * PART)
    line.append(file)
    [(_, index)] = line.pop()
    line.pause(file, index, until=1.0)
    file.failed = True
    file.todo.clear()
    line.leave(file)
    line.wake(2.0)

    assert [] == line.pop()
    assert not line


@given(st.permutations(range(6)), st.integers(1, 6))
def test_parts_that_came_back_stand_in_order(indices: list[int], most: int):
    """In whatever order parts come back, an order is of parts that follow one another, the first ones first."""
    line = Line(front_to_back=False)
    file = transfer(0, 6 * PART)
    line.append(file)
    [*first] = line.pop(6 * PART)
    for index in indices[:4]:
        file.put_back(index)
    line.rejoin(file)
    given_out = []
    while order := line.pop(most * PART):
        found = [index for _, index in order]
        assert list(range(found[0], found[0] + len(found))) == found
        given_out += found

    assert list(range(6)) == [index for _, index in first]
    assert sorted(indices[:4]) == given_out
