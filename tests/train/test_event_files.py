"""Annotation files are read strictly, and what is written reads back."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.annotations import recording, spans, write_csv_bi, write_tsv
from tusz_train.errors import BadAnnotations
from tusz_train.event_files import read_events, write_events
from tusz_train.events import Event

HEAD = "# version = csv_v1.0.0\n# bname = p_s001_t000\n# duration = 301.0000 secs\n#\n"
COLUMNS = "channel,start_time,stop_time,label,confidence\n"
TSV_COLUMNS = "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"


def csv_bi(folder: Path, text: str) -> Path:
    path = folder / "p_s001_t000.csv_bi"
    path.write_text(text)
    return path


def tsv(folder: Path, *rows: str) -> Path:
    path = folder / "p_s001_t000_events.tsv"
    path.write_text(TSV_COLUMNS + "".join(row.replace(" ", "\t") + "\n" for row in rows))
    return path


def refused(path: Path) -> str:
    with pytest.raises(BadAnnotations) as caught:
        read_events(path)
    assert caught.value.hint
    assert 2 == caught.value.exit_code
    assert str(path) in str(caught.value)
    return str(caught.value)


# .csv_bi


def test_a_csv_bi_file_of_the_corpus_is_read(tmp_path: Path):
    """Seizures come with their times, background rows add none, and the header tells the duration."""
    rows = "TERM,0.0000,36.8868,bckg,1.0000\nTERM,36.8868,183.3055,seiz,1.0000\nTERM,183.3055,301.0000,bckg,1.0000\n"
    read = read_events(csv_bi(tmp_path, HEAD + COLUMNS + rows))

    assert recording("p_s001_t000", [(36.8868, 183.3055)], 301.0) == read
    assert "p" == read.subject


def test_a_file_without_rows_has_no_seizures(tmp_path: Path):
    """A reference lists seizures only, so there may be none."""
    assert () == read_events(csv_bi(tmp_path, HEAD + COLUMNS)).events


@pytest.mark.parametrize("end", ["\r\n", "\n\n"])
def test_line_ends_do_not_matter(tmp_path: Path, end: str):
    """Files that went through Windows or an editor read the same."""
    path = tmp_path / "p_s001_t000.csv_bi"
    path.write_bytes((HEAD + COLUMNS + "TERM,1.0,2.0,seiz,1.0\n").replace("\n", end).encode())

    assert (Event(1.0, 2.0),) == read_events(path).events


def test_a_channel_is_never_read_as_a_time(tmp_path: Path):
    """Failure 1 and 4: per-channel rows in a .csv_bi file are an error that names file and line."""
    said = refused(csv_bi(tmp_path, HEAD + COLUMNS + "TERM,0.0,1.0,bckg,1.0\nFP1-F7,36.8868,183.3055,cpsz,1.0000\n"))

    assert "line 7" in said
    assert "FP1-F7" in said


@pytest.mark.parametrize("label", ["gnsz", "mysz", "SEIZ", ""])
def test_an_unknown_label_is_an_error(tmp_path: Path, label: str):
    """Failure 1: a label that is neither seiz nor bckg is never taken for either."""
    assert "line 6" in refused(csv_bi(tmp_path, f"{HEAD}{COLUMNS}TERM,0.0,1.0,{label},1.0\n"))


@pytest.mark.parametrize(
    ("start", "stop"),
    [("nan", "5"), ("1", "nan"), ("-1", "5"), ("5", "1"), ("1", "inf"), ("TERM", "5"), ("", "5"), ("1_0", "50")],
)
@pytest.mark.parametrize("label", ["seiz", "bckg"])
def test_times_that_are_none_are_errors(tmp_path: Path, start: str, stop: str, label: str):
    """NaN, negative, reversed and endless times are errors that name file and line, in background rows too."""
    assert "line 6" in refused(csv_bi(tmp_path, f"{HEAD}{COLUMNS}TERM,{start},{stop},{label},1.0\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD,
        COLUMNS,
        HEAD.replace("301.0000 secs", "unknown") + COLUMNS,
        HEAD.replace("301.0000", "0.0000") + COLUMNS,
        HEAD.replace("301.0000", "nan") + COLUMNS,
        HEAD + "36.8868,183.3055,seiz\n",
        HEAD + COLUMNS + "TERM,1.0,2.0,seiz\n",
        HEAD + COLUMNS + "TERM,1.0,2.0,seiz,1.0,more\n",
        HEAD + COLUMNS.replace("label", "channel"),
    ],
    ids=[
        *("empty", "no columns", "no header", "no seconds", "no time", "nan", "simple form", "cut", "more", "twice"),
    ],
)
def test_other_forms_are_errors(tmp_path: Path, text: str):
    """A file without header, columns or whole rows is not guessed at."""
    refused(csv_bi(tmp_path, text))


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path):
    """A damaged file is named, and ends in no traceback."""
    path = csv_bi(tmp_path, "")
    path.write_bytes(b"\xff\xfe\x00")

    assert "cannot be read" in refused(path)


def test_other_files_are_not_read(tmp_path: Path):
    """Failure 4: a .csv file is not taken for a .csv_bi file."""
    (tmp_path / "p_s001_t000.csv").write_text(HEAD + COLUMNS)

    refused(tmp_path / "p_s001_t000.csv")


# both


@pytest.mark.parametrize("write", [write_csv_bi, write_tsv])
def test_events_are_cut_at_the_end(tmp_path: Path, write):
    """An event past the recording's end is cut there, and one that begins there is none."""
    path = tmp_path / f"p_s001_t000{'.csv_bi' if write is write_csv_bi else '_events.tsv'}"
    write(path, [(50, 110), (100, 120), (130, 140)], 100)

    assert (Event(50.0, 100.0),) == read_events(path).events


@pytest.mark.parametrize("write", [write_csv_bi, write_tsv])
def test_events_that_touch_are_one(tmp_path: Path, write):
    """As in nedc_eeg_eval, rows of one label that follow without a gap are one event, whatever their order."""
    path = tmp_path / f"p_s001_t000{'.csv_bi' if write is write_csv_bi else '_events.tsv'}"
    write(path, [(20, 30), (10, 20), (40, 60), (45, 50), (70, 70)], 100)

    assert (Event(10.0, 30.0), Event(40.0, 60.0)) == read_events(path).events


@pytest.mark.parametrize("form", [".csv_bi", "_events.tsv"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seizures=spans(), over=st.floats(0, 100))
def test_what_is_written_reads_back(tmp_path: Path, form: str, seizures, over: float):
    """Reading a written file gives the same events, to a ten-thousandth of a second."""
    made = recording("p_s001_t000", seizures, 3600 + over)
    write_events(tmp_path / f"p_s001_t000{form}", made)
    read = read_events(tmp_path / f"p_s001_t000{form}")

    assert made.duration == pytest.approx(read.duration, abs=1e-4)
    assert [time for e in made.events for time in (e.start, e.stop)] == pytest.approx(
        [time for e in read.events for time in (e.start, e.stop)], abs=2e-4
    )


def test_a_written_csv_bi_file_covers_the_recording(tmp_path: Path):
    """Hypotheses list background and seizures from the first second to the last, as the corpus' tools want it."""
    write_events(tmp_path / "p_s001_t000.csv_bi", recording("p_s001_t000", [(0, 10), (20.5, 30)], 30))
    lines = (tmp_path / "p_s001_t000.csv_bi").read_text().splitlines()

    assert ["# version = csv_v1.0.0", "# bname = p_s001_t000", "# duration = 30.0000 secs"] == lines[:3]
    rows = ["0.0000,10.0000,seiz", "10.0000,20.5000,bckg", "20.5000,30.0000,seiz"]
    assert [f"TERM,{row},1.0000" for row in rows] == lines[6:]


def test_a_file_is_named_after_its_recording(tmp_path: Path):
    """Events are never written under another recording's name, and nothing is left of the attempt."""
    with pytest.raises(BadAnnotations):
        write_events(tmp_path / "p_s001_t001.csv_bi", recording("p_s001_t000", []))

    assert [] == list(tmp_path.iterdir())


# _events.tsv


@pytest.mark.parametrize(("kind", "count"), [("sz", 1), ("sz_gen_m_tonicClonic", 1), ("sz_uo:", 1), ("bckg", 0)])
def test_every_kind_of_seizure_counts(tmp_path: Path, kind: str, count: int):
    """Sub-types of seizures are seizures, background is none."""
    path = tsv(tmp_path, f"10.00 5.00 {kind} n/a n/a 2020-01-01 60.00")

    assert count == len(read_events(path).events)


@pytest.mark.parametrize("kind", ["seiz", "szx", "artifact", "n/a"])
def test_an_unknown_kind_is_an_error(tmp_path: Path, kind: str):
    """What is neither background nor a seizure is not guessed at."""
    assert "line 2" in refused(tsv(tmp_path, f"10.00 5.00 {kind} n/a n/a 2020-01-01 60.00"))


@pytest.mark.parametrize("row", ["nan 5 sz", "-1 5 sz", "1 -5 sz", "1 n/a sz", "1 inf bckg"])
def test_a_row_without_times_is_an_error(tmp_path: Path, row: str):
    """Onset and duration are seconds from 0 on."""
    assert "line 2" in refused(tsv(tmp_path, f"{row} n/a n/a 2020-01-01 60.00"))


def test_a_file_is_about_one_recording(tmp_path: Path):
    """Rows that disagree on the recording's duration are an error."""
    rows = "1 5 sz n/a n/a 2020-01-01 60.00", "10 5 sz n/a n/a 2020-01-01 90.00"

    assert "line 3" in refused(tsv(tmp_path, *rows))


def test_a_tsv_file_without_rows_takes_the_duration_it_is_given(tmp_path: Path):
    """A hypothesis without rows has no events, and its duration is its reference's; alone it is an error."""
    path = tsv(tmp_path)

    assert recording("p_s001_t000", [], 60.0) == read_events(path, duration=60.0)
    assert "duration" in refused(path)
