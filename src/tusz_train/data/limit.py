"""The file limit of smoke runs: few files, yet of many patients and with seizures. Pure.

It makes the one list of files that all else starts from, so no way of sampling can pass it by.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from tusz_cache import Category, UsageError, WindowManifest, recordings
from tusz_train.data.order import numbers


def limits(files: int) -> dict[str, int]:
    """Return how many files each split keeps where train keeps `files`. Raises UsageError."""
    if files < 1:
        raise UsageError(f"a limit of {files} files leaves nothing", hint="give 1 or more, or no limit")
    return {"train": files, "dev": max(1, files // 5)}


def choose_files(
    files: Sequence[str], patients: Sequence[str], has_seizure: Sequence[bool], count: int, seed: int
) -> tuple[str, ...]:
    """Return `count` of the files, sorted; all if there are no more.

    With seizures as often as among all, though at least one, and one without; no patient has two files as long as another
    has none. patients, has_seizure: of each file. The order in which files are given does not matter.
    """
    rows = sorted(zip(files, patients, has_seizure, strict=True))
    tickets = dict(zip((name for name, _, _ in rows), numbers(len(rows), "limit", seed).tolist(), strict=True))
    pools = {kind: [(name, patient) for name, patient, has in rows if bool(has) is kind] for kind in (True, False)}
    count = min(count, len(rows))
    taken: Counter[str] = Counter()  # files by patient
    chosen: list[str] = []
    for kind, wanted in _quotas(len(pools[True]), len(pools[False]), count).items():
        places = []
        seen = taken.copy()
        for name, patient in sorted(pools[kind], key=lambda row: tickets[row[0]]):
            places.append((seen[patient], tickets[name], name, patient))
            seen[patient] += 1
        for _, _, name, patient in sorted(places)[:wanted]:
            chosen.append(name)
            taken[patient] += 1
    return tuple(sorted(chosen))


def _quotas(with_seizure: int, without: int, count: int) -> dict[bool, int]:
    """Return how many files with and without seizures are chosen."""
    if not count:
        return {True: 0, False: 0}
    wanted = round(count * with_seizure / (with_seizure + without))
    lowest = max(min(1, with_seizure), count - without)
    highest = min(with_seizure, count - min(1, without)) if count > 1 else with_seizure
    wanted = min(max(wanted, lowest), max(highest, lowest))
    return {True: wanted, False: count - wanted}


def limited(manifest: WindowManifest, count: int, seed: int) -> WindowManifest:
    """Return the manifest of `count` of its files. Raises UsageError for a file whose name tells no patient."""
    seizures_F = manifest.counts_by_file()[:, [Category.PARTIAL, Category.FULL]].sum(axis=1) > 0
    patients = [recording.patient for recording in recordings(manifest.files)]
    return only(manifest, choose_files(manifest.files, patients, seizures_F.tolist(), count, seed))


def only(manifest: WindowManifest, files: Collection[str]) -> WindowManifest:
    """Return the manifest's rows of `files`, in the same order."""
    is_kept_F = np.array([name in set(files) for name in manifest.files], bool)
    is_kept_R = is_kept_F[manifest.file_numbers]
    new_number_F = np.cumsum(is_kept_F, dtype=np.int32) - 1
    return WindowManifest(
        tuple(name for name in manifest.files if name in set(files)),
        new_number_F[manifest.file_numbers[is_kept_R]].astype(np.int32),
        manifest.windows[is_kept_R],
        manifest.categories[is_kept_R],
    )
