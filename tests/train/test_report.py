"""The report: one file that holds everything, needs nothing else, escapes what it is given, and opens in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.evaluations import Split, seeing
from tusz_cache.errors import Damaged
from tusz_train import report_page
from tusz_train.evaluating import Evaluation, EvaluationSettings, evaluate_model
from tusz_train.events import Detection
from tusz_train.history import panels, read_history
from tusz_train.report import write_report

pytest.importorskip("matplotlib", reason="figures need matplotlib")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VOID = {"meta", "br", "hr", "img", "link", "input"}
SECTIONS = ["provenance", "training", "sensitivity", "calibration", "patients", "recordings"]
FIGURES = ["training", "sensitivity", "calibration", "best-recording", "worst-recording"]
ODD = "<script>alert('x')</script> & \"$m_1$\""
RUN = {
    "name": "baseline",
    "configuration_hash": "9f2c",
    "cache": {"manifest_sha256": "ab12", "files": 7},
    "verdict": {"ruling": "ACCEPT_LOCAL_BLOCK"},
    "versions": {"tusz_cache": "0.1.0"},
    "configuration": {"loop": {"epochs": 3}},
}
HISTORY = [{"step": step, "train.loss": 1 / step, "lr": 1e-4} for step in range(1, 60)]
SEIZURES = {
    "a_s001_t000": (20, [(30, 60), (170, 200)]),
    "b_s001_t000": (12, [(80, 100)]),
    "c_s001_t000": (7, []),
}


class Read(HTMLParser):
    """Reads a page as a browser does, and objects to elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []  # tag, name, value
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


def parsed(text: str) -> Read:
    found = Read()
    found.feed(text)
    found.close()
    assert [] == found.open
    return found


def halting(x_BCT: Tensor) -> Tensor:
    """Return logits that see seizures, and see one more in a recording where the second channel begins above 0."""
    return 4 * torch.where(x_BCT[:, 1] > 3.2, torch.ones(1), x_BCT[:, 0])


def evaluated(folder: Path, recordings: dict = SEIZURES, model: Any = seeing) -> Evaluation:
    settings = EvaluationSettings(detection=Detection(threshold=0.6, min_duration_s=0), frozen=True)
    return evaluate_model(model, Split(recordings), settings, folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report with all that there can be."""
    folder = tmp_path_factory.mktemp("run")
    missing = {**SEIZURES, "d_s001_t000": (9, [(20, 90)])}
    path = folder / "report.html"
    write_report(path, evaluated(folder, missing, halting), run=RUN, history=HISTORY)
    return path


# what it holds


def test_it_holds_every_section(report: Path):
    """Run, training, sensitivity, calibration, patients and recordings stand in this order, each with its figures."""
    found = parsed(report.read_text())

    ids = {tag: [one for at, name, one in found.attributes if (at, name) == (tag, "id")] for tag in found.tags}
    assert SECTIONS == ids["section"]
    assert [f"figure-{name}" for name in FIGURES] == ids["figure"]


@pytest.mark.parametrize(
    "told",
    [
        *("baseline", "9f2c", "ab12", "ACCEPT_LOCAL_BLOCK", "0.1.0", "epochs"),
        *("SzCORE event F1", "NEDC OVLP FA/24h", "SzCORE FP/day", "AUROC at 1 Hz", "expected calibration error"),
        *("durations are those of the windows", "(given)", "train.loss", "a_s001_t000", "Fp1", "O2"),
        *("reference", "detected", "probability", "false alarms per 24 h", "share of ictal seconds"),
    ],
)
def test_it_tells(report: Path, told: str):
    """What a reader asks for is in the page's text, that of figures too."""
    assert told in parsed(report.read_text()).text


def test_numbers_are_those_of_the_metrics(report: Path):
    """The page shows the numbers of metrics.json."""
    told, text = json.loads((report.parent / "metrics.json").read_text()), parsed(report.read_text()).text

    for value in (told["szcore"]["event"]["f1"], told["nedc_ovlp"]["sensitivity"], told["calibration"]["ece_1hz"]):
        assert f"{value:.3f}" in text
    for patient in told["szcore"]["per_subject"]:
        assert re.search(rf"<td>{patient}</td>", report.read_text())


def test_figures_lie_beside_it(report: Path):
    """Each figure is there as PNG too."""
    names = {f"{name}.png" for name in FIGURES}

    assert names == {path.name for path in (report.parent / "figures").iterdir()}
    assert {b"\x89PNG"} == {(report.parent / "figures" / name).read_bytes()[:4] for name in names}


# what it needs


def test_it_is_self_contained(report: Path):
    """Nothing in the page leads outside of it: no script, no address, no import; the policy it states forbids them."""
    text = report.read_text()
    found = parsed(text)

    assert set() == found.tags & {"script", "link", "iframe", "object", "embed", "base", "form", "img", "image"}
    assert [] == [value for value in found.values("src", "href", "xlink:href") if not value.startswith("#")]
    assert set() == set(re.findall(r"url\((?!#)[^)]*\)|@import", text))
    assert any(value.startswith("default-src 'none'") for value in found.values("content"))
    assert set() == {value for value in found.values("style") if "expression" in value or "http" in value}


def test_ids_are_unique_and_lead_somewhere(report: Path):
    """Figures share a page without taking each other's clips and marks."""
    text = report.read_text()
    ids = parsed(text).values("id")

    assert sorted(set(ids)) == sorted(ids)
    led = [*re.findall(r"url\(#([^)]+)\)", text), *re.findall(r'href="#([^"]+)"', text)]
    assert led
    assert set(led) <= set(ids)


def test_colours_come_from_the_page(report: Path):
    """Each colour of a figure is one that the page defines, for light and for dark."""
    text = report.read_text()
    light, dark = text.split("@media (prefers-color-scheme: dark)")[:2]
    used = set(re.findall(r"var\(--(\w+)\)", text)) - {"font", "card"}

    assert used <= set(re.findall(r"--(\w+):", light))
    assert used <= set(re.findall(r"--(\w+):", dark.split("}")[0]))
    assert [] == re.findall(r"#0a0b\d\d", text)


def test_it_is_the_same_each_time(tmp_path: Path):
    """The same evaluation gives the same bytes."""
    evaluation = evaluated(tmp_path)
    for name in ("one", "two"):
        write_report(tmp_path / name / "report.html", evaluation, run=RUN, history=HISTORY)

    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "two" / "report.html").read_bytes()


# what it is given


def test_names_are_escaped(tmp_path: Path):
    """Names of runs, patients, recordings and metrics are text, whatever they hold."""
    recordings = {f"{ODD.replace('/', '')}_s001_t000": (7, [(10, 40)])}
    history = [{"step": step, ODD: step} for step in (1, 2)]
    path = tmp_path / "report.html"

    write_report(path, evaluated(tmp_path, recordings), run={"name": ODD, ODD: {ODD: ODD}}, history=history)

    found = parsed(path.read_text())
    assert "script" not in found.tags
    assert found.text.count(ODD) >= 4
    assert ODD.replace("/", "") in found.text


def test_a_report_without_anything(tmp_path: Path):
    """Without run, log, seizures and detections, a report says so in each place."""
    path = tmp_path / "report.html"

    write_report(path, evaluated(tmp_path, {"a_s001_t000": (1, [])}), run={})

    text = parsed(path.read_text()).text
    for told in ("No training was logged", "No recording holds a seizure", "No run.json", "Evaluation"):
        assert told in text


# the log


def test_a_log_is_read(tmp_path: Path):
    """Numbers are shown by step; what a resumed run logged last stands; a line cut off at the end is left out."""
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 1, "loss": 3, "epoch": 0},
        {"step": 2, "loss": 9.5, "note": "x"},
        {"step": 2, "loss": 2.5, "f1": 1},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "lo')

    found = read_history(path)

    assert lines == found
    assert {"loss": [(1, 3), (2, 2.5)]} == panels(found)


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"step": 3'])
def test_a_damaged_log_is_told(tmp_path: Path, line: str):
    """A line that is no JSON object, before the last, is damage, named by its number."""
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')

    with pytest.raises(Damaged, match="line 2"):
        read_history(path)


# in a browser


def browse(folder: Path, page: Path, *options: str) -> tuple[str, list[str]]:
    """Return what Chromium made of a page, and what it wrote to its console. Nothing leaves the machine."""
    assert CHROMIUM is not None
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
    quiet += ("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND")
    command = [CHROMIUM, *quiet, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *options]
    ran = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True, cwd=folder)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_it_opens_in_a_browser(report: Path, tmp_path: Path):
    """Chromium shows the page with all its figures, and says nothing on its console: no error, no refused request."""
    dom, console = browse(tmp_path, report, "--dump-dom")

    assert [] == console
    assert len(FIGURES) == dom.count("<figure ") == dom.count("</svg>")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_would_tell(tmp_path: Path):
    """A page that does ask for something outside is seen to: its own policy refuses that, on the console."""
    page = tmp_path / "page.html"
    page.write_text(report_page.page("x", ['<img src="http://127.0.0.1:9/x.png" alt="">']))

    _, console = browse(tmp_path, page, "--dump-dom")

    assert 1 == len(console)
    assert "Content Security Policy" in console[0]
