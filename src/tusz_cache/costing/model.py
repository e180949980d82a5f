"""The model: what each way to have the cache moves, how long the GPU waits for it, and what that costs. Pure.

Where a rate is a ceiling, as those of mount and volume are, waiting is the least that it can be.
"""

import math
from datetime import date

from tusz_cache.costing.assumptions import CostAssumptions
from tusz_cache.costing.prices import Prices
from tusz_cache.costing.report import CostReport, Figure, Unit, Way
from tusz_cache.tusz import CHANNELS, WINDOW
from tusz_cache.units import format_bytes, format_seconds

PACKED_WINDOW = CHANNELS * WINDOW * 4 + WINDOW  # bytes: float32 samples, a byte for each label


def estimate_cost(assumptions: CostAssumptions, prices: Prices, *, today: date, explain: bool = False) -> CostReport:
    """Return what training costs from a bucket's mount, from NPZ files on a volume, and from a packed store there.

    prices: as `read_prices` returns them. today: old prices are told by it.
    """
    a = assumptions
    ways = (_mount(a, prices), _volume(a, prices, packed=False), _volume(a, prices, packed=True))
    return CostReport(assumptions=a, prices=prices, today=today, ways=ways, gpu_seconds=_work(a), explain=explain)


def _work(a: CostAssumptions) -> float:
    """Return the seconds that the GPU works in all epochs."""
    return a.epochs * a.windows / a.gpu_rate


def _mount(a: CostAssumptions, prices: Prices) -> Way:
    read = _npz_read(a)
    each = read.value * a.epochs
    dev_parts = a.dev_files * math.ceil(a.dev_bytes / max(a.dev_files, 1) / a.mount_part)
    parts = a.windows * math.ceil(a.train_file / a.mount_part) + dev_parts
    missed = max(0.0, 1 - a.mount_cache / a.bytes)
    inflating = read.value / (a.workers * a.inflate_rate)
    caching = each / a.disk_rate if a.mount_cache else 0.0  # a cache serves what it has and takes what comes
    longest = max(_work(a), inflating * a.epochs, each * missed / a.mount_rate, caching)
    containers = math.ceil(longest / 3600 / a.container_hours)
    fill = containers * min(a.mount_cache, a.bytes)
    moved = Figure(
        min(each, fill + each * missed),
        "bytes",
        f"the less of {format_bytes(each)}, all that is read, and {format_bytes(fill)} to fill the cache in "
        f"{containers} containers with {missed:.3g} of all that is read, which the cache has not",
    )
    asked = Figure(
        a.epochs * parts * moved.value / each if each else 0.0,
        "requests",
        f"{a.epochs} epochs x {parts:,} parts of {format_bytes(a.mount_part)} x {format_bytes(moved.value)} moved "
        f"/ {format_bytes(each)} read",
    )
    epochs = max(a.epochs, 1)
    wait, feed = _waiting(
        a,
        inflating * a.epochs,
        max(moved.value / a.mount_rate, caching),
        f"{format_bytes(moved.value)} / {format_bytes(a.mount_rate)}/s"
        + (f", or {format_bytes(each)} / {format_bytes(a.disk_rate)}/s through its cache" if a.mount_cache else ""),
    )
    return _priced(
        a,
        prices,
        "s3-mount",
        once=(_nothing("bytes", "a mount is not filled before"), _nothing("requests", "a mount is not filled before")),
        epoch=(
            Figure(moved.value / epochs, "bytes", f"{format_bytes(moved.value)} / {epochs} epochs"),
            Figure(asked.value / epochs, "requests", f"{asked.value:,.0f} / {epochs} epochs"),
        ),
        all_=(moved, asked),
        read=read,
        reads=_reads(a, a.train_file, a.train_bytes),
        feed=feed,
        wait=wait,
        populate=_nothing("s", "a mount is not filled before"),
        volume=0.0,
        pinned=a.same_region,
    )


def _volume(a: CostAssumptions, prices: Prices, *, packed: bool) -> Way:
    store = a.bytes * a.packed_share
    if packed:
        read = Figure(
            a.windows * PACKED_WINDOW + a.dev_bytes * a.packed_share,
            "bytes",
            f"{a.windows:,} windows x {PACKED_WINDOW:,} bytes "
            f"+ the dev split's {format_bytes(a.dev_bytes * a.packed_share)}",
        )
        reads, core_rate = _reads(a, PACKED_WINDOW, a.train_bytes * a.packed_share), a.copy_rate
    else:
        read, core_rate = _npz_read(a), a.inflate_rate
        reads = _reads(a, a.train_file, a.train_bytes)
    each = read.value * a.epochs
    wait, feed = _waiting(
        a,
        each / (a.workers * core_rate),
        each / a.volume_rate,
        f"{format_bytes(each)} / {format_bytes(a.volume_rate)}/s",
    )
    gets = a.train_files * math.ceil(a.train_file / a.part_size)
    gets += a.dev_files * math.ceil(a.dev_bytes / max(a.dev_files, 1) / a.part_size)
    files = a.train_files + a.dev_files
    once = (
        Figure(a.bytes, "bytes", "each byte of the cache, once"),
        Figure(
            gets + files,
            "requests",
            f"{gets:,} parts of {format_bytes(a.part_size)}, and a HEAD for each of {files:,} files",
        ),
    )
    populating = a.bytes / (a.populate_containers * a.populate_rate)
    said = f"{format_bytes(a.bytes)} / ({a.populate_containers} containers x {format_bytes(a.populate_rate)}/s)"
    if packed:
        cores = a.populate_containers * a.populate_cpu
        packing = max(a.bytes / (cores * a.pack_rate), (a.bytes + store) / a.volume_rate)
        said += (
            f", and to pack the longer of {format_bytes(a.bytes)} / ({cores:g} cores x {format_bytes(a.pack_rate)}/s) "
            f"and {format_bytes(a.bytes + store)} / {format_bytes(a.volume_rate)}/s"
        )
        populating += packing
    return _priced(
        a,
        prices,
        "volume-packed" if packed else "volume-npz",
        once=once,
        epoch=(_nothing("bytes", "training reads the volume"), _nothing("requests", "training reads the volume")),
        all_=once,
        read=read,
        reads=reads,
        feed=feed,
        wait=wait,
        populate=Figure(populating, "s", said),
        volume=a.bytes + store if packed else float(a.bytes),
        pinned=False,
    )


def _npz_read(a: CostAssumptions) -> Figure:
    """Return the bytes that an epoch reads from NPZ files: of each window the whole file, since it is deflated."""
    return Figure(
        a.windows * a.train_file + a.dev_bytes,
        "bytes",
        f"{a.windows:,} windows x {format_bytes(a.train_file)}, the file that each lies in, "
        f"+ the dev split's {format_bytes(a.dev_bytes)}",
    )


def _reads(a: CostAssumptions, each: float, split: float) -> Figure:
    """Return how often an epoch reads what the train split has in bytes."""
    said = f"{a.windows:,} windows x {format_bytes(each)} / {format_bytes(split)} of the train split"
    return Figure(a.windows * each / split if split else 0.0, "times", said)


def _waiting(a: CostAssumptions, cores: float, medium: float, said: str) -> tuple[Figure, Figure]:
    """Return how long the GPU waits in all, and what feeds it. cores, medium: seconds each needs for all epochs."""
    work = _work(a)
    slowest = max(cores, medium)
    wait = Figure(
        max(0.0, slowest - work),
        "s",
        f"the longer of {format_seconds(cores)} for {a.workers} workers and {format_seconds(medium)} to move ({said}), "
        f"less the GPU's own {format_seconds(work)}",
    )
    fed = a.epochs * a.windows / slowest if slowest else 0.0
    return wait, Figure(fed, "windows/s", f"{a.epochs * a.windows:,} windows / {format_seconds(slowest)}")


def _priced(
    a: CostAssumptions,
    prices: Prices,
    name: str,
    *,
    once: tuple[Figure, Figure],
    epoch: tuple[Figure, Figure],
    all_: tuple[Figure, Figure],
    read: Figure,
    reads: Figure,
    feed: Figure,
    wait: Figure,
    populate: Figure,
    volume: float,
    pinned: bool,
) -> Way:
    """Put prices to what is moved, stored and waited for.

    volume: bytes that lie there. pinned: whether training must run in the bucket's region.
    """
    egress = "s3_egress_same_region" if a.same_region else "s3_egress"
    dearer = prices.usd("modal_region_pin")
    factor = dearer if pinned else 1.0
    gpu = prices.usd("modal_gpu")
    box = a.populate_cpu * prices.usd("modal_cpu") + a.populate_memory * prices.usd("modal_memory")
    storage = _storage(a, prices, volume)
    asked, moved = all_[1].value, all_[0].value
    costs = {
        "stored": Figure(storage.value * a.months, "USD", f"${storage.value:.2f} x {a.months:g} months"),
        "requests": Figure(asked * prices.usd("s3_requests"), "USD", f"{asked:,.0f} x {prices.s3_requests}"),
        "egress": Figure(moved * prices.usd(egress), "USD", f"{format_bytes(moved)} x {getattr(prices, egress)}"),
        "populate": Figure(
            populate.value * a.populate_containers * box * (dearer if a.same_region else 1.0),
            "USD",
            f"{format_seconds(populate.value)} x {a.populate_containers} containers x "
            f"({a.populate_cpu:g} cores x {prices.modal_cpu} + "
            f"{a.populate_memory / 2**30:g} GiB x {prices.modal_memory})"
            + (f" x {dearer:g} in one region" if a.same_region else ""),
        ),
        "wait": Figure(
            wait.value * gpu * factor,
            "USD",
            f"{format_seconds(wait.value)} x {prices.modal_gpu}" + (f" x {factor:g}" if pinned else ""),
        ),
        "pin": Figure(
            _work(a) * gpu * (factor - 1),
            "USD",
            f"{format_seconds(_work(a))} of the GPU's work x {prices.modal_gpu} x {factor - 1:g}",
        ),
        "outputs": Figure(
            a.outputs * prices.usd("modal_egress"), "USD", f"{format_bytes(a.outputs)} x {prices.modal_egress}"
        ),
    }
    return Way(
        name=name,
        once_bytes=once[0],
        once_requests=once[1],
        epoch_bytes=epoch[0],
        epoch_requests=epoch[1],
        all_bytes=all_[0],
        all_requests=all_[1],
        read_bytes=read,
        reads=reads,
        feed=feed,
        wait_seconds=wait,
        populate_seconds=populate,
        storage=storage,
        total=Figure(sum(figure.value for figure in costs.values()), "USD", " + ".join(costs)),
        **costs,
    )


def _storage(a: CostAssumptions, prices: Prices, volume: float) -> Figure:
    """Return what a month of the bucket costs, and what the volume's bytes add to the workspace's bill."""
    free = prices.usd("modal_volume_free")
    billed = max(0.0, volume + a.volume_other - free) - max(0.0, a.volume_other - free)
    return Figure(
        a.bytes * prices.usd("s3_storage") + billed * prices.usd("modal_volume"),
        "USD/month",
        f"the bucket's {format_bytes(a.bytes)} x {prices.s3_storage} + {format_bytes(billed)} of the volume's "
        f"{format_bytes(volume)} beyond the free {prices.modal_volume_free} x {prices.modal_volume}",
    )


def _nothing(unit: Unit, why: str) -> Figure:
    return Figure(0.0, unit, why)
