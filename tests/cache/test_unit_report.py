"""What reports must be: one JSON object, a table, and HTML, of whatever a run met."""

import json

import pytest

from tusz_cache.errors import BadResponse, ForeignTarget, SourceChanged
from tusz_cache.report import Failure, SyncReport
from tusz_cache.verify_report import VerifyReport

FAILED = Failure.of("k", BadResponse("torn", hint="again"))
CHANGED = Failure.of("l", SourceChanged("other", hint="again"))
REFUSED = Failure.of("m", ForeignTarget("strange", hint="move it"))


def synced(**changes: object) -> SyncReport:
    return SyncReport(**{"source": "s", "target": "t", "plan_id": "p", "files_total": 1} | changes)


def verified(**changes: object) -> VerifyReport:
    return VerifyReport(**{"target": "t", "level": "full", "files": 1, "bytes": 2, "seconds": 1.0} | changes)


@pytest.mark.parametrize(
    ("failures", "code"),
    [
        ((), 0),
        ((FAILED,), 3),
        ((REFUSED,), 5),
        ((FAILED, REFUSED), 5),
        ((FAILED, REFUSED, CHANGED), 4),
        ((Failure("k", "e", "h", 2),), 3),
    ],
)
def test_failures_decide_the_exit_code(failures: tuple[Failure, ...], code: int):
    """A run with failures is incomplete, or refused, or met a changed source, the last weighing most."""
    assert code == synced(failures=failures).exit_code


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({}, True),
        ({"missing": ("a",)}, False),
        ({"damaged": ("a",)}, False),
        ({"unexpected": ("a",)}, True),
        ({"unexpected": ("a",), "strict": True}, False),
        ({"strict": True}, True),
        ({"expected": {"train": (2, 2)}}, True),
        ({"expected": {"train": (2, 1)}}, False),
        ({"expected": {"train": (2, 3)}}, False),
    ],
)
def test_a_cache_is_whole_or_exit_7(changes: dict, ok: bool):
    """Missing or damaged files and wrong counts are a fault; unexpected files are one only where asked."""
    assert (ok, 0 if ok else 7) == (verified(**changes).ok, verified(**changes).exit_code)


SOME = [
    synced(failures=(FAILED,), notes=("n",), verification={"own-crc": 1}),
    synced(sealed=True, seal="t/seal", bytes_copied=10, seconds=2.0, bytes_refetched=3),
    verified(missing=("a",), expected={"train": (2, 1)}),
    verified(damaged=tuple(f"k{i}" for i in range(30))),
]


@pytest.mark.parametrize("report", SOME)
def test_a_report_is_json_text_and_html(report: SyncReport | VerifyReport):
    """JSON is one line and one object equal to as_dict; text and HTML name the target."""
    assert json.loads(report.as_json()) == json.loads(json.dumps(report.as_dict()))
    assert "\n" not in report.as_json()
    assert report.target in report.as_text()
    assert report._repr_html_().startswith("<table>")


@pytest.mark.parametrize("name", ["invalid utf-8 \udcff", "ünï", "\U0001f9e0", "line\nbreak"])
@pytest.mark.parametrize("form", ["as_json", "as_text", "_repr_html_"])
def test_a_report_can_be_printed_whatever_files_are_called(name: str, form: str):
    """File names are bytes to Linux: one that is no Unicode must not turn a report into a traceback."""
    for report in (verified(unexpected=(name,)), synced(target=name), verified(target=name)):
        getattr(report, form)().encode("utf-8")


def test_html_is_escaped():
    """A key cannot smuggle markup into a notebook."""
    assert "<script>" not in verified(missing=("<script>",))._repr_html_()


def test_a_report_without_time_has_no_rate():
    """A run that took no time has rate 0, not a division by zero."""
    assert (0.0, 0.0) == (synced(bytes_copied=5).bytes_per_second, verified(seconds=0.0).bytes_per_second)
