"""`python -m tusz_train score`: worked cases of the field, through files, and what must be refused."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.annotations import WRITERS, Spans, write_csv_bi, write_tsv
from tests.support.running import run_train
from tusz_train import score, score_folders


class Case(NamedTuple):
    ref: Spans
    hyp: Spans
    event: tuple[int, int, int]  # tp, fp, ref
    sample: tuple[int, int, int]


A_HYP = [(75, 95), (1080, 1100), (1500, 1520), (1580, 1600), (2010, 2050), (2090, 2450)]
A_REF = [(100, 160), (1000, 1030), (2000, 2400)]

# Worked by hand and confirmed with timescoring 0.0.7: one hour each.
SZCORE = {
    "A": Case(A_REF, A_HYP, (4, 1, 4), (350, 130, 490)),
    "B": Case([(100, 160)], [(50, 70)], (0, 1, 1), (0, 20, 60)),
    "B2": Case([(100, 160)], [(50, 71)], (1, 0, 1), (0, 21, 60)),
    "B3": Case([(100, 160)], [(220, 240)], (0, 1, 1), (0, 20, 60)),
    "B4": Case([(100, 160)], [(219, 240)], (1, 0, 1), (0, 21, 60)),
    "C": Case([(100, 110), (200, 210)], [(100, 110)], (1, 0, 2), (10, 0, 20)),
    "C2": Case([(100, 110), (199.9, 210)], [(100, 110)], (1, 0, 1), (10, 0, 20)),
    "D": Case([(100, 401)], [(100, 110)], (1, 0, 2), (10, 0, 301)),
    "D2": Case([(100, 160)], [(100, 820)], (1, 2, 1), (60, 660, 60)),
    "E": Case([], [(10, 20)], (0, 1, 0), (0, 10, 0)),
    "F": Case([(10, 20)], [], (0, 0, 1), (0, 0, 10)),
    "G": Case([], [], (0, 0, 0), (0, 0, 0)),
    "H": Case([(100, 160), (360, 400)], [(100, 390)], (2, 0, 2), (90, 200, 100)),
    "I": Case([(100, 160)], [(120.01, 120.03)], (0, 1, 1), (0, 0, 60)),
}
RATIOS = ("sensitivity", "precision", "f1", "fp_per_day")

# As nedc_eeg_eval v6.0.0 counts them, label SEIZ, one hour each: hits, misses, false alarms, FA/24h.
OVLP = {
    "A": (A_REF, A_HYP, (1, 2, 4, 96.0)),
    "b": ([(100, 120)], [(105, 125)], (1, 0, 0, 0.0)),
    "c": ([(100, 160), (360, 400)], [(100, 390)], (2, 0, 0, 0.0)),
    "d": ([(100, 160)], [(90, 110), (130, 170)], (1, 0, 0, 0.0)),
}


class Folders(NamedTuple):
    ref: Path
    hyp: Path

    def add(self, name: str, ref: Spans | None, hyp: Spans | None, form: str = ".csv_bi", **how: Any) -> None:
        for folder, spans in ((self.ref, ref), (self.hyp, hyp)):
            if spans is not None:
                WRITERS[form](folder / f"{name}{form}", spans, **how)

    def refused(self, capsys: pytest.CaptureFixture[str], *options: str) -> str:
        """Score, and return what is said about why not."""
        status = score.main([str(self.ref), str(self.hyp), "--json", *options])
        said = capsys.readouterr()

        assert 2 == status == json.loads(said.out)["exit_code"]
        return said.err

    def scored(self, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
        assert 0 == score.main([str(self.ref), str(self.hyp), "--json", *options])
        return json.loads(capsys.readouterr().out)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "ref", tmp_path / "hyp")
    for folder in made:
        folder.mkdir()
    return made


# worked cases


@pytest.mark.parametrize("form", WRITERS)
def test_worked_cases_of_szcore(folders: Folders, form: str):
    """Events and seconds of each worked case are counted as SzCORE counts them, read from either form of file."""
    for name, case in SZCORE.items():
        folders.add(f"{name}_s001_t000", case.ref, case.hyp, form)
    ran = run_train("score", folders.ref, folders.hyp, "--json")

    assert (0, "") == (ran.code, ran.err)
    counted = {
        name: tuple(tuple(one[kind][count] for count in ("tp", "fp", "ref")) for kind in ("event", "sample"))
        for name, one in ran.json["szcore"]["per_subject"].items()
    }
    assert {name: (case.event, case.sample) for name, case in SZCORE.items()} == counted


@pytest.mark.parametrize(
    ("name", "event", "sample"),
    [
        ("A", (1.0, 0.8, 0.888889, 24.0), (0.714286, 0.729167, 0.721649, 3120.0)),
        ("E", (None, 0.0, 0.0, 24.0), (None, 0.0, 0.0, 240.0)),
        ("F", (0.0, None, 0.0, 0.0), (0.0, None, 0.0, 0.0)),
        ("G", (None, None, None, 0.0), (None, None, None, 0.0)),
    ],
)
def test_ratios_of_worked_cases(folders: Folders, capsys: pytest.CaptureFixture[str], name, event, sample):
    """Ratios follow the field's conventions, and what is undefined is null."""
    folders.add(f"{name}_s001_t000", SZCORE[name].ref, SZCORE[name].hyp)
    szcore = folders.scored(capsys)["szcore"]

    assert list(event) == pytest.approx([szcore["event"][ratio] for ratio in RATIOS], abs=1e-6)
    assert list(sample) == pytest.approx([szcore["sample"][ratio] for ratio in RATIOS], abs=1e-6)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("name", OVLP)
def test_worked_cases_of_nedc_ovlp(folders: Folders, capsys: pytest.CaptureFixture[str], name: str, form: str):
    """Hits, misses and false alarms are those that the corpus' authors' tool counts."""
    ref, hyp, expected = OVLP[name]
    folders.add(f"{name}_s001_t000", ref, hyp, form)
    ovlp = folders.scored(capsys)["nedc_ovlp"]

    assert expected == (ovlp["hits"], ovlp["misses"], ovlp["false_alarms"], ovlp["fa_per_24h"])


def test_recordings_are_summed_by_subject_and_subjects_averaged(folders: Folders):
    """Counts add up within a subject; the macro mean is over subjects, the pooled score over everything."""
    folders.add("p1_s001_t000", [(100, 160)], [(110, 150)])
    folders.add("p1_s001_t001", [], [(500, 520)])
    folders.add("p2_s001_t000", [(300, 340)], [])
    found = run_train("score", folders.ref, folders.hyp, "--json").json
    szcore, ovlp = found["szcore"], found["nedc_ovlp"]

    assert found == score_folders(folders.ref, folders.hyp).as_dict()
    assert (3, 2, 3 * 3600.0) == (found["recordings"], found["subjects"], found["seconds"])
    pooled = {"tp": 1, "fp": 1, "ref": 2, "sensitivity": 0.5, "precision": 0.5, "f1": 0.5, "fp_per_day": 8.0}
    assert pooled == pytest.approx(szcore["event"])
    assert {"p1": 2 / 3, "p2": 0.0} == pytest.approx(
        {p: one["event"]["f1"] for p, one in szcore["per_subject"].items()}
    )
    assert 1 / 3 == pytest.approx(szcore["macro"]["event"]["f1"])
    assert (1, 1, 1, 0.5, 8.0) == tuple(
        ovlp[key] for key in ("hits", "misses", "false_alarms", "sensitivity", "fa_per_24h")
    )


def test_a_mean_over_subjects_leaves_out_those_without_a_value(folders: Folders, capsys: pytest.CaptureFixture[str]):
    """A subject without seizures has no sensitivity, and does not lower the mean."""
    folders.add("p1_s001_t000", [(100, 160)], [(110, 150)])
    folders.add("p2_s001_t000", [], [])
    macro = folders.scored(capsys)["szcore"]["macro"]["event"]

    assert {"sensitivity": 1.0, "precision": 1.0, "f1": 1.0, "fp_per_day": 0.0} == macro


def test_rates_use_the_true_duration(folders: Folders, capsys: pytest.CaptureFixture[str]):
    """False alarms per day are per day of the recording, also where windows left its tail out."""
    write_csv_bi(folders.ref / "p_s001_t000.csv_bi", [], 129.5)
    write_csv_bi(folders.hyp / "p_s001_t000.csv_bi", [(10, 20)], 120)
    found = folders.scored(capsys)

    assert 86400 / 129.5 == pytest.approx(found["nedc_ovlp"]["fa_per_24h"])
    assert 86400 / 129.5 == pytest.approx(found["szcore"]["event"]["fp_per_day"])


def test_people_get_a_table(folders: Folders):
    """Without --json every number of the table names its scorer."""
    folders.add("p_s001_t000", [(100, 160)], [])
    ran = run_train("score", folders.ref, folders.hyp)

    assert (0, "") == (ran.code, ran.err)
    lines = ran.out.splitlines()
    assert "recordings" in lines[0]
    assert [] == [line for line in lines[1:] if not line.startswith(("SzCORE ", "NEDC OVLP"))]
    assert "precision undefined" in ran.out


# pairs


def test_folders_are_searched_to_any_depth(folders: Folders, capsys: pytest.CaptureFixture[str]):
    """The corpus' tree of patients and sessions is read as it is, beside its EDF and per-channel files."""
    where = folders.ref / "dev" / "p" / "s001_2014" / "01_tcp_ar"
    write_csv_bi(where / "p_s001_t000.csv_bi", [(100, 160)])
    (where / "p_s001_t000.csv").write_text("not read")
    write_csv_bi(folders.hyp / "p_s001_t000.csv_bi", [(100, 160)])

    assert 1.0 == folders.scored(capsys)["szcore"]["event"]["f1"]


def test_a_subject_is_what_stands_before_the_first_underscore(folders: Folders, capsys: pytest.CaptureFixture[str]):
    """Names of BIDS and of the corpus both tell their subject."""
    folders.add("sub-01_ses-01_task-szMonitoring_run-00", [(1, 2)], [(1, 2)], "_events.tsv")
    folders.add("sub-01_ses-02_task-szMonitoring_run-00", [], [], "_events.tsv")

    assert ["sub-01"] == list(folders.scored(capsys)["szcore"]["per_subject"])


@pytest.mark.parametrize("missing", ["ref", "hyp"])
def test_a_missing_label_is_an_error(folders: Folders, capsys: pytest.CaptureFixture[str], missing: str):
    """Failure 2: a missing file never counts as "no seizures"; the hint names it."""
    folders.add("p_s001_t000", [(100, 160)], [(100, 160)])
    folders.add("p_s001_t001", [(100, 160)], [(100, 160)])
    (getattr(folders, missing) / "p_s001_t001.csv_bi").unlink()

    assert f"p_s001_t001 (no {'reference' if missing == 'ref' else 'hypothesis'})" in folders.refused(capsys)


def test_two_files_of_one_recording_are_an_error(folders: Folders, capsys: pytest.CaptureFixture[str]):
    """Which of two files counts is not guessed; the hint names both."""
    folders.add("p_s001_t000", [(100, 160)], [(100, 160)])
    write_csv_bi(folders.ref / "again" / "p_s001_t000.csv_bi", [])
    said = folders.refused(capsys)

    assert str(folders.ref / "again" / "p_s001_t000.csv_bi") in said
    assert str(folders.ref / "p_s001_t000.csv_bi") in said


def test_mixed_forms_are_an_error(folders: Folders, capsys: pytest.CaptureFixture[str]):
    """References of both forms, or hypotheses of the other form only, are refused with a hint that names some."""
    write_csv_bi(folders.ref / "p_s001_t000.csv_bi", [])
    write_tsv(folders.hyp / "p_s001_t000_events.tsv", [])
    assert str(folders.hyp / "p_s001_t000_events.tsv") in folders.refused(capsys)

    write_tsv(folders.ref / "p_s001_t001_events.tsv", [])
    said = folders.refused(capsys)
    assert str(folders.ref / "p_s001_t000.csv_bi") in said
    assert str(folders.ref / "p_s001_t001_events.tsv") in said


def test_hypotheses_in_both_forms_are_read_in_that_of_the_references(folders, capsys):
    """A folder with each hypothesis in both forms can be scored as it is."""
    folders.add("p_s001_t000", [(100, 160)], [(100, 160)])
    write_tsv(folders.hyp / "p_s001_t000_events.tsv", [])

    assert 1 == folders.scored(capsys)["nedc_ovlp"]["hits"]


@pytest.mark.parametrize("broken", ["ref", "hyp"])
def test_a_folder_without_annotations_is_an_error(folders: Folders, capsys: pytest.CaptureFixture[str], broken: str):
    """Failure 4: a folder of per-channel .csv files is not scored, and neither is one that is not there."""
    folders.add("p_s001_t000", [(100, 160)], [(100, 160)])
    path = getattr(folders, broken) / "p_s001_t000.csv_bi"
    path.rename(path.with_suffix(".csv"))
    folders.refused(capsys)

    path.with_suffix(".csv").unlink()
    path.parent.rmdir()
    assert f"{path.parent} is no folder" in folders.refused(capsys)


def test_durations_may_differ_by_the_tolerance_only(folders: Folders, capsys: pytest.CaptureFixture[str]):
    """A hypothesis much shorter or longer than its reference is of something else."""
    write_csv_bi(folders.ref / "p_s001_t000.csv_bi", [], 120)
    write_csv_bi(folders.hyp / "p_s001_t000.csv_bi", [(125, 130)], 130.5)
    assert "lasts 130.5 s, and its reference 120 s" in folders.refused(capsys)

    found = folders.scored(capsys, "--tolerance", "11")
    assert (0, 120.0) == (found["nedc_ovlp"]["false_alarms"], found["seconds"])


@pytest.mark.parametrize("seconds", ["-1", "nan", "ten"])
def test_a_tolerance_is_seconds(folders: Folders, seconds: str):
    """A tolerance that would switch the comparison off is a usage error."""
    folders.add("p_s001_t000", [], [])

    assert 2 == run_train("score", folders.ref, folders.hyp, "--tolerance", seconds).code
