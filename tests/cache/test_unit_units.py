"""What sizes must be: read as people write them, written as people read them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.errors import UsageError
from tusz_cache.units import format_bytes, format_seconds, parse_bytes, parse_rate


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1", 1),
        ("512", 512),
        ("512B", 512),
        ("1k", 1000),
        ("1K", 1000),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("16MiB", 16 * 1024**2),
        ("16mib", 16 * 1024**2),
        ("500MB", 500_000_000),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("450GB", 450 * 10**9),
        ("2T", 2 * 10**12),
        ("1PiB", 1024**5),
        (" 1.5 GiB ", 3 * 1024**3 // 2),
        ("0.5", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, count: int):
    """Decimal and binary units in any case, with or without a space or a fraction, give the number of bytes."""
    assert count == parse_bytes(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "MiB",
        "-1",
        "-1MiB",
        "1,5GB",
        "1.5.5GB",
        "1 2",
        "16 Mi B",
        "16XB",
        "16MBit",
        ".5",
        "5.",
        "1e9",
        "nan",
        "inf",
    ],
)
def test_what_is_no_size_is_refused(text: str):
    """Any other text is a usage error that shows how to write a size."""
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)

    assert (2, True) == (caught.value.exit_code, "16MiB" in caught.value.hint)


def test_a_size_beyond_all_numbers_is_refused():
    """A number too large for arithmetic is a usage error too, not a traceback."""
    with pytest.raises(UsageError):
        parse_bytes("9" * 400 + "PB")


@given(st.integers(0, 2**53))
def test_plain_numbers_are_exact(count: int):
    """A number without a unit is that many bytes."""
    assert count == parse_bytes(str(count))


@given(st.integers(0, 1000), st.sampled_from("KMGTP"))
def test_units_are_powers(number: int, prefix: str):
    """Units with an "i" are powers of 1024, all others of 1000."""
    power = "KMGTP".index(prefix) + 1

    assert number * 1000**power == parse_bytes(f"{number}{prefix}B") == parse_bytes(f"{number}{prefix}")
    assert number * 1024**power == parse_bytes(f"{number}{prefix}iB")


def test_a_rate_may_say_per_second():
    """A rate is a size, with or without "/s"."""
    assert 500_000_000 == parse_rate("500MB/s") == parse_rate("500MB")
    with pytest.raises(UsageError):
        parse_rate("500MB/h")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (999.5, "1 kB"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (76_400_000, "76.4 MB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (450 * 10**9, "450 GB"),
        (1.25 * 10**12, "1.25 TB"),
        (1234 * 10**12, "1234 TB"),
    ],
)
def test_bytes_are_written_in_three_digits(count: float, text: str):
    """A count is written in the largest unit that leaves a number of at least one, with three digits."""
    assert text == format_bytes(count)


@given(st.integers(0, 10**15))
def test_a_written_count_is_near_the_count(count: int):
    """Reading back what was written differs by less than one percent."""
    assert count == pytest.approx(parse_bytes(format_bytes(count)), rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.84, "0.8 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (4320, "1 h 12 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations_are_written_for_a_glance(seconds: float, text: str):
    """A duration is written in seconds, minutes or hours, whichever reads at a glance."""
    assert text == format_seconds(seconds)


@given(st.floats(0, 10**6))
def test_no_duration_has_sixty_of_anything(seconds: float):
    """Sixty seconds are a minute and sixty minutes an hour, also after rounding."""
    assert re.search(r"\b60(\.0)? (s|min)", format_seconds(seconds)) is None
