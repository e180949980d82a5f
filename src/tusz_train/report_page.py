"""Pieces of an HTML page: text is escaped here, and nowhere else. A page needs no network and no script."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tusz_cache.layout import printable
from tusz_train.figures import COLOURS, Drawing

_DARK = {
    "ink": "#e4e9ef",
    "muted": "#98a4b3",
    "grid": "#313a46",
    "paper": "#12171d",
    "one": "#5aa7f0",
    "two": "#f0964b",
    "three": "#62bd86",
    "reference": "#62bd86",
    "detected": "#f0964b",
}


def _variables(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


_STYLE = f"""
:root {{ color-scheme: light dark; --font: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  --card: #f4f6f8; {_variables(COLOURS)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --card: #1b222b; {_variables(_DARK)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 var(--font); }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--grid); }}
h3 {{ font-size: 1rem; margin: 1.5rem 0 .25rem; overflow-wrap: anywhere; }}
p {{ margin: .4rem 0; max-width: 50rem; }}
.note, figcaption, .card span {{ color: var(--muted); font-size: .87rem; }}
.warning {{ font-weight: 600; border-left: .3rem solid var(--detected); padding-left: .6rem; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(8.2rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; }}
.card {{ background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }}
.card {{ font-size: .87rem; line-height: 1.35; }}
.card b {{ display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }}
.card span {{ display: block; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; margin: .75rem 0; }}
th, td {{ text-align: right; padding: .28rem .5rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
thead th {{ color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal; }}
tfoot td {{ font-weight: 600; border-bottom: 0; }}
table.facts th {{ color: var(--muted); font-weight: 400; padding-right: 1.5rem; vertical-align: top; }}
table.facts td {{ text-align: left; white-space: normal; overflow-wrap: anywhere; }}
figure {{ margin: 1rem 0; }}
figure svg {{ display: block; width: 100%; height: auto; }}
pre {{ background: var(--card); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; font-size: .8rem; }}
summary {{ cursor: pointer; color: var(--muted); }}
@media print {{
  :root {{ --card: #f4f6f8; {_variables(COLOURS)} }}
  body {{ max-width: none; padding: 0; font-size: 10pt; }}
  h2, h3 {{ break-after: avoid; }}
  article, figure, .cards, tr {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }}
  th, td {{ padding: .15rem .35rem; }}
  details {{ display: none; }}
}}
"""


def escaped(value: object) -> str:
    """Return a value as text of a page."""
    return html.escape(printable(str(value)))


def page(title: str, sections: Iterable[str]) -> str:
    """Return the whole page."""
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escaped(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with its heading."""
    return f'<section id="{name}">\n<h2>{escaped(title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph."""
    return f'<p class="{kind}">{escaped(text)}</p>' if kind else f"<p>{escaped(text)}</p>"


def cards(values: Sequence[tuple[str, str, str]]) -> str:
    """Return (value, name, what it means) side by side."""
    each = (
        f'<div class="card"><b>{escaped(value)}</b>{escaped(name)}<span>{escaped(more)}</span></div>'
        for value, name, more in values
    )
    return f'<div class="cards">{"".join(each)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] = ()) -> str:
    """Return rows below a head, and what they come to."""
    heads = "".join(f'<th scope="col">{escaped(one)}</th>' for one in head)
    body = "\n".join(_row(row) for row in rows)
    foot = f"<tfoot>{_row(total)}</tfoot>" if total else ""
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody>{foot}</table></div>'


def _row(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in cells)}</tr>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return (name, value) rows."""
    lines = "\n".join(f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>' for name, value in rows)
    return f'<table class="facts">{lines}</table>'


def figure(drawing: Drawing, caption: str) -> str:
    """Return a figure, whose caption is what is read aloud."""
    return f'<figure id="figure-{drawing.name}">\n{drawing.svg}\n<figcaption>{escaped(caption)}</figcaption>\n</figure>'


def folded(summary: str, value: Any) -> str:
    """Return a JSON value that is opened by a click."""
    text = escaped(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    return f"<details><summary>{escaped(summary)}</summary><pre>{text}</pre></details>"
