"""The twenty ways in which training on this corpus went wrong before, each with the tests that stand in its way.

What happened in each is told in the words of those who met it; the tests are found by name, so none can go unnoticed.
"""

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FAILURES = {
    "1: a parser took the channel for a time, went on after errors, and 254 GB of cache had no seizure": (
        "train/test_event_files.py::test_a_channel_is_never_read_as_a_time",
        "train/test_event_files.py::test_an_unknown_label_is_an_error",
        "train/test_event_files.py::test_times_that_are_none_are_errors",
    ),
    "2: labels that were missing became zeros": (
        "train/test_score.py::test_a_missing_label_is_an_error",
        "train/test_data_feed.py::test_failure_2_a_missing_label_is_an_error_never_zeros",
    ),
    "3: files, not patients, were split, and patients leaked": (
        "train/test_data_feed.py::test_failure_3_patients_in_two_splits_are_refused",
        "cache/test_unit_tusz.py::test_a_patient_in_two_splits_is_refused",
    ),
    "4: dev was called val here and there": ("cache/test_unit_tusz.py::test_a_split_by_another_name_is_refused",),
    "5: two keys named the cache, and training preprocessed live where it found none": (
        "train/test_config.py::test_there_is_one_key_for_the_cache",
        "train/test_start.py::test_a_start_is_refused",
    ),
    "6: a full run inherited a limit of 50 files": (
        "train/test_config.py::test_a_full_run_cannot_inherit_a_file_limit",
        "train/test_start.py::test_a_start_says_what_it_does",
    ),
    "7: the limit was ignored with balanced sampling": (
        "train/test_data_limit.py::test_failure_6_and_7_the_limit_holds_however_is_sampled",
    ),
    "8: a run was a smoke run if its file was called so": (
        "train/test_config.py::test_smoke_is_a_key_and_not_a_file_name",
        "train/test_start.py::test_a_name_does_not_make_a_run_a_smoke_run",
    ),
    "9: a smoke run overwrote the shared index of the cache": (
        "train/test_start.py::test_the_cache_is_not_written_to",
        "cache/test_unit_tusz_windows.py::test_a_stale_index_is_told",
    ),
    "10: training deleted the cache for want of a file": ("train/test_start.py::test_the_cache_is_not_written_to",),
    "11: a copy ran out of time, wiped its target, began again, and called gaps usable": (
        "cache/test_kill.py::test_a_killed_run_goes_on_to_the_same_bytes",
        "cache/test_sync_faults.py::test_a_fault_that_persists_fails_its_objects_alone",
    ),
    "12: a hundred hours were planned in a function of 24": (
        "train/test_resume.py::test_time_that_is_up_stops_in_time",
        "train/test_resume.py::test_a_killed_run_goes_on_exactly",
    ),
    "13: nobody knew whether the cache lay on a bucket or on the volume": (
        "cache/test_doctor.py::test_one_screen_for_a_person",
        "cache/test_doctor.py::test_a_remote_mount_is_not_looked_at",
    ),
    "14: hours went into sampling windows to weigh the classes": (
        "train/test_data_feed.py::test_failure_14_classes_are_counted_without_reading_a_window",
    ),
    "15: all of dev was held in memory, and events counted in each window that saw them": (
        "train/test_stitch.py::test_a_seizure_counts_once_though_six_windows_saw_it",
        "train/test_stitch.py::test_windows_of_two_recordings_are_never_one",
        "train/test_stitch.py::test_memory_does_not_grow_with_the_recording",
    ),
    "16: somebody's own W&B account was built in, and a missing key passed in silence": (
        "train/test_config.py::test_no_account_is_built_in",
        "train/test_start.py::test_wandb_that_is_required_must_start",
        "train/test_start.py::test_wandb_that_is_optional_is_missed_aloud",
    ),
    "17: metrics were told that nobody had measured": (
        "train/test_evaluate.py::test_scores_are_those_of_the_files",
        "train/test_report.py::test_numbers_are_those_of_the_metrics",
    ),
    "18: outliers of 121 sigma were found, the cache was made anew, and runs went on over it": (
        "cache/test_pack.py::test_int16_refuses_what_it_cannot_hold",
        "train/test_resume.py::test_another_cache_does_not_go_on",
        "train/test_start.py::test_a_store_of_another_cache_is_refused",
    ),
    "19: batch sizes and counts differed from page to page": (
        "train/test_config.py::test_the_page_on_configuration_is_made_of_the_code",
        "train/test_config.py::test_the_file_counts_are_the_same_everywhere",
    ),
    "20: the environment was read at import, and validation kept gradients": (
        "train/test_start.py::test_the_environment_is_read_when_a_run_starts",
        "train/test_predict.py::test_a_model_evaluates_and_is_left_as_it_was",
    ),
}


@functools.cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_there_are_twenty():
    """None of the twenty is left out."""
    assert list(range(1, 21)) == [int(failure.partition(":")[0]) for failure in FAILURES]


@pytest.mark.parametrize("failure", FAILURES)
def test_what_went_wrong_has_tests_in_its_way(failure: str):
    """Each failure has tests, and they are where they are said to be."""
    wanted = [test.split("::") for test in FAILURES[failure]]

    assert wanted
    assert [] == [name for path, name in wanted if name not in names_in(path)]
