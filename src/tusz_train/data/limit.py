"""The file limit of smoke runs: few files, yet of many patients and with seizures. Pure.

It makes the one list of files that all else starts from, so no way of sampling can pass it by.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from tusz_cache import Category, UsageError, WindowManifest, recordings
from tusz_train.data.order import numbers


def choose_files(
    files: Sequence[str], patients: Sequence[str], has_seizure: Sequence[bool], count: int, seed: int
) -> tuple[str, ...]:
    """Return `count` of the files, sorted; all if there are no more.

    Seizures are as frequent as among all files, though one file has some and one has none where there is room. Of
    either kind, patients with few files so far come first. patients, has_seizure: of each file. The order in which
    files are given does not matter. Raises UsageError for a count below 1.
    """
    if count < 1:
        raise UsageError(f"a limit of {count} files leaves nothing", hint="give 1 or more, or no limit")
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
    """Return how many files with and without seizures are chosen, `count` in all, one of each kind if there is room."""
    lowest = max(count - without, min(1, with_seizure))
    highest = min(with_seizure, max(count - min(1, without), lowest))
    wanted = min(max(round(count * with_seizure / max(with_seizure + without, 1)), lowest), highest)
    return {True: wanted, False: count - wanted}


def limited(manifest: WindowManifest, count: int, seed: int) -> WindowManifest:
    """Return the manifest of `count` of its files. Raises UsageError for a file whose name tells no patient."""
    seizures_F = manifest.counts_by_file()[:, [Category.PARTIAL, Category.FULL]].sum(axis=1) > 0
    patients = [recording.patient for recording in recordings(manifest.files)]
    return only(manifest, choose_files(manifest.files, patients, seizures_F.tolist(), count, seed))


def only(manifest: WindowManifest, files: Collection[str]) -> WindowManifest:
    """Return the manifest's rows of `files`, in the same order."""
    wanted = frozenset(files)
    is_kept_F = np.array([name in wanted for name in manifest.files], bool)
    is_kept_R = is_kept_F[manifest.file_numbers]
    new_number_F = np.cumsum(is_kept_F) - 1
    return WindowManifest(
        tuple(name for name in manifest.files if name in wanted),
        new_number_F[manifest.file_numbers[is_kept_R]].astype(np.int32),
        manifest.windows[is_kept_R],
        manifest.categories[is_kept_R],
    )
