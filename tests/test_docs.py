"""What the documentation must be: true of the code, complete, and without dead links."""

import re
from pathlib import Path

import pytest

from tests.support.reference import options_of, parsers, render
from tusz_cache.errors import EXIT_CODES

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"(python -m tusz_cache\.|tusz-cache |python -m tusz_train |tusz-train )([a-z_]+)([^`\n|]*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")


def reference() -> str:
    assert REFERENCE.exists(), "docs/reference.md is missing: run `make docs`"
    return REFERENCE.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ +(.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_reference_is_what_the_code_says():
    """docs/reference.md is exactly what the generator makes of the code as it is."""
    assert render() == reference(), "docs/reference.md is not what the code says: run `make docs`"


@pytest.mark.parametrize("command", sorted(parsers()))
def test_every_option_is_documented(command: str):
    """Each option of each command stands in the section of its command."""
    section = reference().partition(f"### `{command} ")[2].partition("\n### ")[0]
    assert section, f"docs/reference.md has no section on {command}: run `make docs`"

    missing = [name for name in options_of(parsers()[command]) if not re.search(rf"`(.*, )?{name}[ `,]", section)]
    assert [] == missing


@pytest.mark.parametrize("code", EXIT_CODES)
def test_every_exit_code_is_documented(code: int):
    """Each exit code stands in the reference with its meaning."""
    assert f"| {code} | {EXIT_CODES[code]} |" in reference()


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_says_how_to_begin(command: str):
    """A newcomer finds in the README how to see it work and how to test it."""
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path):
    """Each relative link of a page points at a file that exists, and each anchor at a heading."""
    dead = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)

    assert [] == dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_exist(page: Path):
    """A command line shown anywhere names a verb and options that there are."""
    known = {command: set(options_of(parser)) for command, parser in parsers().items()}
    wrong = []
    for called, verb, rest in re.findall(CALL, page.read_text("utf-8")):
        command = ("python -m tusz_cache." if "cache" in called else "python -m tusz_train ") + verb
        if command not in known:
            wrong.append(command)
        else:
            wrong += [option for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest) if option not in known[command]]

    assert [] == wrong
