"""What training costs: hand-computed cases, what must hold for all, prices files that are refused."""

import json
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache import cost
from tusz_cache.costing.assumptions import BASES, CostAssumptions
from tusz_cache.costing.model import estimate_cost
from tusz_cache.costing.prices import UNITS, read_prices
from tusz_cache.costing.report import CostReport
from tusz_cache.errors import UsageError

TODAY = date(2026, 11, 24)
WAYS = ("s3-mount", "volume-npz", "volume-packed")

# round prices: what they come to can be reckoned by hand
ROUND = {
    "s3_storage": (0.02, "USD/GB-month"),
    "s3_requests": (0.5, "USD/1000"),
    "s3_egress": (0.1, "USD/GB"),
    "s3_egress_same_region": (0, "USD/GB"),
    "modal_volume": (0.1, "USD/GB-month"),
    "modal_volume_free": (60, "GB"),
    "modal_egress": (0.05, "USD/GB"),
    "modal_gpu": (3.6, "USD/h"),
    "modal_cpu": (0.0001, "USD/s"),
    "modal_memory": (0.0001, "USD/GiB-s"),
    "modal_region_pin": (2, "factor"),
}
# 1000 files of 100 MB, no dev split; two epochs of 1000 windows, for which the GPU works 20 s
SMALL = CostAssumptions(
    bytes=100_000_000_000,
    train_files=1000,
    dev_files=0,
    dev_share=0.0,
    epochs=2,
    windows=1000,
    gpu_rate=100.0,
    workers=10,
    inflate_rate=100_000_000,
    copy_rate=1_000_000_000,
    packed_share=0.2,
    mount_cache=0,
    mount_rate=500_000_000,
    volume_rate=1_000_000_000,
    populate_rate=250_000_000,
    pack_rate=100_000_000,
    outputs=0,
)


def section(name: str, value: object, unit: str, gathered: str = "2026-11-24") -> str:
    return f'[{name}]\nvalue = {value}\nunit = "{unit}"\ngathered = {gathered}\nsource = "a test"\n'


def priced(directory: Path, assumptions: CostAssumptions = SMALL) -> CostReport:
    """Estimate with the round prices."""
    path = directory / "prices.toml"
    path.write_text("\n".join(section(name, *price) for name, price in ROUND.items()))
    return estimate_cost(assumptions, read_prices(path), today=TODAY)


def usd(report: CostReport, way: str) -> dict[str, float]:
    """Return the costs of a way that are not 0."""
    figures = report.way(way).figures().items()
    return {name: round(figure.value, 6) for name, figure in figures if figure.unit == "USD" and figure.value}


# by hand


def test_a_mount_without_a_cache_moves_every_file_for_every_window(tmp_path: Path):
    """2 epochs x 1000 windows x 100 MB = 200 GB, each file in two parts of 64 MiB.

    At 500 MB/s that takes 400 s, 380 s more than the GPU's 20 s.
    Egress 200 GB x $0.1; 4000 requests at $0.5 a thousand; 100 GB x $0.02 stored; 380 s x $3.6 an hour waited for.
    """
    report = priced(tmp_path)
    mount = report.way("s3-mount")

    assert (0, 100e9, 200e9) == (mount.once_bytes.value, mount.epoch_bytes.value, mount.all_bytes.value)
    assert (0, 2000, 4000) == (mount.once_requests.value, mount.epoch_requests.value, mount.all_requests.value)
    assert (1.0, 5.0, 380.0) == (mount.reads.value, mount.feed.value, mount.wait_seconds.value)
    assert usd(report, "s3-mount") == {"egress": 20.0, "requests": 2.0, "stored": 2.0, "wait": 0.38, "total": 24.38}


def test_a_mount_s_cache_is_filled_once_for_each_container(tmp_path: Path):
    """A cache of 60 GB holds 0.6: 60 GB to fill it, and 0.4 of 200 GB past it, are 140 GB while one container lasts.

    Inflating 200 GB takes 10 workers of 100 MB/s 200 s: where a container lasts 36 s, six of them fill theirs, which is
    more than the 200 GB that are read at all.
    """
    half = replace(SMALL, mount_cache=60_000_000_000)

    assert priced(tmp_path, half).way("s3-mount").all_bytes.value == pytest.approx(140e9)
    slow = priced(tmp_path, replace(half, disk_rate=100_000_000)).way("s3-mount")  # all 200 GB pass through the disk
    assert slow.wait_seconds.value == pytest.approx(2000 - 20)
    assert priced(tmp_path, replace(half, container_hours=0.01)).way("s3-mount").all_bytes.value == pytest.approx(200e9)


def test_a_volume_is_filled_once(tmp_path: Path):
    """100 GB once, in 6 parts of 16 MiB and a HEAD for each of 1000 files: 7000 requests. No epoch moves anything.

    Of 100 GB on the volume 60 are free: 40 x $0.1, and the bucket's 100 x $0.02. Four containers of 250 MB/s
    populate in 100 s, each with 4 cores and 8 GiB at $0.0001: $0.48. Inflating takes 200 s as reading does, 180 more
    than the GPU.
    """
    report = priced(tmp_path)
    volume = report.way("volume-npz")

    assert (100e9, 0, 100e9) == (volume.once_bytes.value, volume.epoch_bytes.value, volume.all_bytes.value)
    assert (7000, 0, 7000) == (volume.once_requests.value, volume.epoch_requests.value, volume.all_requests.value)
    assert (100e9, 180.0, 100.0) == (
        volume.read_bytes.value,
        volume.wait_seconds.value,
        volume.populate_seconds.value,
    )
    costs = {"egress": 10.0, "requests": 3.5, "stored": 6.0, "populate": 0.48, "wait": 0.18}
    assert usd(report, "volume-npz") == costs | {"total": 20.16}


def test_a_packed_store_feeds_the_gpu(tmp_path: Path):
    """A window is 1,182,720 bytes with its labels: the GPU never waits. Store and cache lie there: 60 GB are billed.

    Packing takes 120 s, to read 100 GB and write 20 at 1 GB/s; by 16 cores alone it were 62.5 s.
    """
    report = priced(tmp_path)
    packed = report.way("volume-packed")

    assert (1000 * 1_182_720, 0.0, 220.0) == (
        packed.read_bytes.value,
        packed.wait_seconds.value,
        packed.populate_seconds.value,
    )
    costs = {"egress": 10.0, "requests": 3.5, "stored": 8.0, "populate": 1.056}
    assert usd(report, "volume-packed") == costs | {"total": 22.556}


def test_in_the_bucket_s_region_nothing_is_paid_for_egress_and_more_for_computing(tmp_path: Path):
    """The pin doubles populating, which reads the bucket; training is pinned only where it does so itself."""
    report = priced(tmp_path, replace(SMALL, same_region=True))

    assert usd(report, "s3-mount") == {"requests": 2.0, "stored": 2.0, "wait": 0.76, "pin": 0.02, "total": 4.78}
    costs = {"requests": 3.5, "stored": 6.0, "populate": 0.96, "wait": 0.18}
    assert usd(report, "volume-npz") == costs | {"total": 10.64}


def test_the_dev_split_is_read_once_an_epoch(tmp_path: Path):
    """With 20 GB of dev an epoch reads 1000 windows x 80 MB, and the 20 GB."""
    report = priced(tmp_path, replace(SMALL, dev_share=0.2, dev_files=200))

    assert report.way("volume-npz").read_bytes.value == pytest.approx(100e9)
    assert report.way("volume-packed").read_bytes.value == pytest.approx(1_182_720_000 + 4e9)


def test_outputs_and_months_are_paid_for(tmp_path: Path):
    """10 GB fetched at $0.05, and three months of $6."""
    report = priced(tmp_path, replace(SMALL, outputs=10_000_000_000, months=3.0))

    assert (0.5, 18.0) == (usd(report, "volume-npz")["outputs"], usd(report, "volume-npz")["stored"])


@pytest.mark.parametrize(
    ("lies_there", "besides", "billed_gib"),
    [(2**40, 0, 0), (2**40 + 2**30, 0, 1), (2**30, 2**40 - 2**30, 0), (2**30, 2**40, 1), (2**30, 2**41, 1)],
)
def test_the_first_tebibyte_is_free_for_all_volumes_together(lies_there: int, besides: int, billed_gib: int):
    """Only what the cache adds beyond the free TiB is billed: $0.09 a GiB, whatever lies there besides."""
    prices = read_prices()
    report = estimate_cost(CostAssumptions(bytes=lies_there, volume_other=besides), prices, today=TODAY)

    added = report.way("volume-npz").storage.value - report.way("s3-mount").storage.value
    assert added == pytest.approx(0.09 * billed_gib, abs=1e-9)


# for all

SIZES = st.integers(1, 10**13)
ASSUMED = st.builds(
    CostAssumptions,
    bytes=SIZES,
    epochs=st.integers(0, 300),
    windows=st.integers(0, 300_000),
    mount_cache=st.integers(0, 10**13),
    mount_rate=st.integers(10**6, 10**10),
    disk_rate=st.integers(10**6, 10**10),
    volume_rate=st.integers(10**6, 10**10),
    gpu_rate=st.floats(1, 5000),
    volume_other=st.integers(0, 2**41),
    same_region=st.booleans(),
)
PRICES = read_prices()


def totals(assumptions: CostAssumptions) -> list[float]:
    return [way.total.value for way in estimate_cost(assumptions, PRICES, today=TODAY).ways]


@given(ASSUMED)
def test_without_epochs_nothing_is_read(assumptions: CostAssumptions):
    """Zero epochs move nothing through a mount, keep no GPU waiting, and cost a volume what populating it does."""
    report = estimate_cost(replace(assumptions, epochs=0), PRICES, today=TODAY)

    mount = report.way("s3-mount")
    assert (0, 0, 0) == (mount.all_bytes.value, mount.all_requests.value, mount.egress.value)
    assert {0.0} == {way.wait_seconds.value for way in report.ways} | {way.pin.value for way in report.ways}


@given(ASSUMED, st.integers(0, 300))
def test_more_epochs_are_never_cheaper(assumptions: CostAssumptions, more: int):
    """Each way costs as much or more with more epochs."""
    longer = totals(replace(assumptions, epochs=assumptions.epochs + more))

    assert all(after >= before * (1 - 1e-12) for before, after in zip(totals(assumptions), longer, strict=True))


@given(ASSUMED, SIZES)
def test_more_bytes_are_never_cheaper(assumptions: CostAssumptions, more: int):
    """Each way costs as much or more with a larger cache."""
    larger = totals(replace(assumptions, bytes=assumptions.bytes + more))

    assert all(after >= before * (1 - 1e-12) for before, after in zip(totals(assumptions), larger, strict=True))


@given(ASSUMED)
def test_the_total_is_the_sum_of_what_it_names(assumptions: CostAssumptions):
    """No cost is left out of the total, and none is negative or no number."""
    for way in estimate_cost(assumptions, PRICES, today=TODAY).ways:
        costs = {name: figure.value for name, figure in way.figures().items() if figure.unit == "USD"}
        assert costs.pop("total") == pytest.approx(sum(costs.values()))
        assert all(0 <= figure.value < float("inf") for figure in way.figures().values())


@given(ASSUMED)
def test_a_mount_never_moves_more_than_is_read(assumptions: CostAssumptions):
    """What is fetched is at most what is read."""
    mount = estimate_cost(assumptions, PRICES, today=TODAY).way("s3-mount")

    assert mount.all_bytes.value <= mount.read_bytes.value * assumptions.epochs


# assumptions


def test_every_assumption_says_what_it_rests_on():
    """Each figure has a basis; nothing that concerns a GPU, a mount or the platform's speed is called measured."""
    names = {field.name for field in fields(CostAssumptions)}

    assert names == set(BASES)
    measured = {name for name, basis in BASES.items() if basis.kind == "measured"}
    assert measured == {"inflate_rate", "copy_rate", "packed_share", "pack_rate"}
    assert {"assumed"} == {BASES[name].kind for name in ("gpu_rate", "mount_rate", "disk_rate", "populate_rate")}


def test_what_the_user_gives_is_no_longer_measured():
    """A figure that was given is called so."""
    assert CostAssumptions(inflate_rate=1).basis("inflate_rate").kind == "given"


@pytest.mark.parametrize("field", [field.name for field in fields(CostAssumptions) if field.type is not bool])
def test_assumptions_below_zero_are_refused(field: str):
    """No count, size, rate or price of time is negative, or no number."""
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=field):
            CostAssumptions(**{field: value})


@pytest.mark.parametrize("field", ["bytes", "train_files", "gpu_rate", "volume_rate", "workers", "mount_part"])
def test_what_is_divided_by_is_not_zero(field: str):
    """A rate or count of 0 is refused, not divided by."""
    with pytest.raises(UsageError, match=field):
        CostAssumptions(**{field: 0})


# prices


def test_the_package_s_prices_are_dated_and_say_where_they_stand():
    """Each price has its unit, its date and its document."""
    named = read_prices().named()

    assert set(named) == set(UNITS)
    assert all(price.source and price.gathered.year == 2026 for price in named.values())


def test_a_file_replaces_the_prices_that_it_names(tmp_path: Path):
    """Others stay as the package has them; units may differ."""
    path = tmp_path / "mine.toml"
    path.write_text(section("modal_gpu", 3.6, "USD/h"))

    prices = read_prices(path)
    assert prices.usd("modal_gpu") == pytest.approx(0.001)
    assert prices.modal_cpu == read_prices().modal_cpu


GOOD = section("modal_gpu", 2.5, "USD/h")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[modal_gpu", "no TOML"),
        (section("modal_tpu", 2.5, "USD/h"), "no such price"),
        ("modal_gpu = 2.5", "no section"),
        (GOOD + "colour = 1", "unknown key 'colour'"),
        (GOOD.replace("gathered = 2026-11-24\n", ""), "'gathered' is missing"),
        (GOOD.replace("gathered = 2026-11-24", 'gathered = "2026-11-24"'), "not a date"),
        (GOOD.replace("gathered = 2026-11-24", "gathered = 2026-11-24T10:00:00"), "not a date"),
        (GOOD.replace("gathered = 2026-11-24", "gathered = 2026"), "not a date"),
        (GOOD.replace('source = "a test"', 'source = " "'), "source"),
        (section("modal_gpu", '"2.5"', "USD/h"), "not a number"),
        (section("modal_gpu", "true", "USD/h"), "not a number"),
        (section("modal_gpu", "nan", "USD/h"), "not a number"),
        (section("modal_gpu", "inf", "USD/h"), "not a number"),
        (section("modal_gpu", -1, "USD/h"), "not a number"),
        (section("modal_gpu", 2.5, "EUR/h"), "not one of USD/s, USD/h"),
        (section("modal_region_pin", 0.5, "factor"), "below 1"),
    ],
)
def test_bad_prices_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str):
    """Exit 2, with what is wrong and how it is written."""
    path = tmp_path / "prices.toml"
    path.write_text(text)

    assert cost.main(["--prices", str(path)]) == 2
    said = capsys.readouterr()
    assert (says in said.err, "hint:  write sections like" in said.err, "") == (True, True, said.out)


def test_a_prices_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit 2, with the path."""
    assert cost.main(["--prices", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("today", "says"),
    [(date(2027, 5, 23), None), (date(2027, 5, 24), "6 months old"), (date(2026, 11, 23), "dated ahead")],
)
def test_old_prices_are_said_to_be_old(tmp_path: Path, today: date, says: str | None):
    """A price of six months is old, one of a day less is not; one from the future is a mistake."""
    path = tmp_path / "prices.toml"
    path.write_text("\n".join(section(name, *price) for name, price in ROUND.items()))
    text = estimate_cost(SMALL, read_prices(path), today=today).as_text()

    assert ("months old" in text or "dated ahead" in text) == (says is not None)
    assert says is None or text.count(says) == len(ROUND)


# the command


def test_the_command_says_prices_assumptions_and_what_is_not_known(capsys: pytest.CaptureFixture[str]):
    """The text has each way, each price with its date, each assumption with its kind, and no formula unless asked."""
    assert cost.main([]) == 0
    plain = capsys.readouterr().out
    assert cost.main(["--explain"]) == 0
    explained = capsys.readouterr().out

    assert [] == [name for name in (*WAYS, *UNITS, *BASES) if name not in plain]
    assert ("assumed" in plain, "no bill was seen" in plain) == (True, True)
    assert ("windows x" in plain, "windows x" in explained) == (False, True)


def test_json_carries_every_formula(capsys: pytest.CaptureFixture[str]):
    """One object; each number with unit and formula, each price with its source, each assumption with its basis."""
    assert cost.main(["--json", "--bytes", "900GB", "--epochs", "3", "--same-region"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert tuple(told["ways"]) == WAYS
    assert all(figure["formula"] and figure["unit"] for way in told["ways"].values() for figure in way.values())
    assert (900_000_000_000, "given") == (told["assumptions"]["bytes"]["value"], told["assumptions"]["bytes"]["basis"])
    assert told["assumptions"]["same_region"]["value"] is True
    assert {"value", "unit", "gathered", "source"} == set(told["prices"]["s3_egress"])


@pytest.mark.parametrize(
    "arguments", [["--bytes", "much"], ["--epochs", "-1"], ["--epochs", "1.5"], ["--gpu-rate", "fast"]]
)
def test_bad_options_are_refused(arguments: list[str]):
    """Exit 2 of the parser."""
    with pytest.raises(SystemExit) as stopped:
        cost.main(arguments)
    assert stopped.value.code == 2


def test_a_share_of_everything_is_refused(capsys: pytest.CaptureFixture[str]):
    """An assumption that makes no sense is exit 2 with a hint."""
    assert cost.main(["--dev-share", "1"]) == 2
    assert "hint" in capsys.readouterr().err


def test_a_notebook_shows_a_table():
    """Three tables, a column for each way."""
    shown = estimate_cost(CostAssumptions(), PRICES, today=TODAY)._repr_html_()

    assert (3, True) == (shown.count("<table>"), "<td>volume-packed</td>" in shown)
