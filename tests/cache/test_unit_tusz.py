"""What the corpus' names must tell: patient, session, token; splits by their own names, without a patient in common."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.errors import PatientOverlap, UsageError
from tusz_cache.tusz import Recording, cache_file_of, check_disjoint, check_splits, parse_name, recordings, split_of

PATIENTS = st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True)
RECORDINGS = st.builds(
    Recording,
    PATIENTS,
    st.from_regex(r"s[0-9]{3}", fullmatch=True),
    st.from_regex(r"t[0-9]{3}", fullmatch=True),
)


def files_of(*patients: str) -> list[str]:
    return [Recording(patient, "s001", f"t{token:03d}").cache_file for patient in patients for token in range(2)]


@given(RECORDINGS)
def test_a_name_tells_its_recording(recording: Recording):
    """Patient, session and token come back from the name of the cache file."""
    assert recording == parse_name(recording.cache_file)
    assert (recording,) == recordings([recording.cache_file])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "manifest.json",
        "aaaaaaac_s001_t000.npz",
        "aaaaaaac_s001_windows.npz",
        "aaaaaaac_t000_s001_windows.npz",
        "aaa_aaac_s001_t000_windows.npz",
        "aaaaaaac_s001_t000_windows.npz.part",
        "train/aaaaaaac_s001_t000_windows.npz",
        "aaaaaaac_s001_t000_windows.npz\n",
        "aaaaaaac_s٣_t000_windows.npz",
    ],
)
def test_another_name_tells_nothing(name: str):
    """A name is taken whole or not at all, and where a patient is needed it is an error that names it."""
    assert None is parse_name(name)
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        recordings([name])


def test_an_edf_file_leads_to_its_cache_file():
    """The dataset index has EDF paths; the cache file follows from the last part."""
    assert "aaaaaaac_s001_t000_windows.npz" == cache_file_of("edf/train/aaaaaaac/s001_2009/x/aaaaaaac_s001_t000.edf")
    assert "a_s1_t1_windows.npz" == cache_file_of("a_s1_t1.edf")


def test_a_key_tells_its_split():
    """The split is the first folder; what lies at the root is of none."""
    assert ["train", "dev", "."] == [split_of(key) for key in ("train/a.npz", "dev/x/a.npz", "a.npz")]


def test_splits_come_in_the_order_of_the_corpus():
    """Other folders are no splits, and do no harm."""
    assert ("train", "dev", "eval") == check_splits(["eval", "logs", "dev", "train", ".tusz_cache"])
    assert ("dev",) == check_splits(["dev"])
    assert () == check_splits([])


@pytest.mark.parametrize(("folder", "split"), [("val", "dev"), ("Val", "dev"), ("validation", "dev"), ("test", "eval")])
def test_a_split_by_another_name_is_refused(folder: str, split: str):
    """A cache with val/ is not read as one without a dev split."""
    with pytest.raises(UsageError, match=f"{folder}/") as caught:
        check_splits(["train", folder])
    assert f"{split}/" in caught.value.hint


def test_patients_in_one_split_each_are_fine():
    """Any number of sessions of a patient within one split is as it should be."""
    check_disjoint({"train": files_of("aa", "ab"), "dev": files_of("ba"), "eval": []})


@pytest.mark.parametrize("pair", [("train", "dev"), ("train", "eval"), ("dev", "eval")])
def test_a_patient_in_two_splits_is_refused(pair: tuple[str, str]):
    """The error names the patients and both splits."""
    names = {split: files_of(split) for split in ("train", "dev", "eval")}
    for split in pair:
        names[split] += files_of("shared1", "shared2")

    with pytest.raises(PatientOverlap, match=f"{pair[0]} and {pair[1]} share patients: shared1, shared2$"):
        check_disjoint(names)


def test_many_shared_patients_are_counted():
    """A message stays short."""
    names = files_of(*(f"p{i}" for i in range(50)))

    with pytest.raises(PatientOverlap, match=r"share patients: p0, .* and 45 more") as caught:
        check_disjoint({"train": names, "dev": names})
    assert len(str(caught.value)) < 200


def test_a_patient_is_the_whole_first_part_of_a_name():
    """Names that begin alike, or differ in case, are different patients."""
    names = ["ab", "abc", "Ab", "b"]

    for one, other in pairwise(names):
        check_disjoint({"train": files_of(one), "dev": files_of(other)})


def test_a_name_without_a_patient_is_no_proof():
    """Where a patient is unknown, splits cannot be called disjoint."""
    with pytest.raises(UsageError, match="odd"):
        check_disjoint({"train": ["odd.npz"], "dev": []})
