"""How reports and verdicts are laid out for a person: (label, value) rows as text or as HTML."""

import html


def as_table(rows: list[tuple[str, str]]) -> str:
    """Lay out (label, value) rows as text."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {printable(value)}" for label, value in rows)


def as_html(title: str, rows: list[tuple[str, str]]) -> str:
    """Lay out (label, value) rows for a notebook."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(a)}</th><td>{html.escape(printable(b))}</td></tr>"
        for a, b in rows
    )
    return f"<table><caption>{html.escape(printable(title))}</caption>{cells}</table>"


def printable(text: str) -> str:
    """File names may be no valid Unicode; what is shown is."""
    return text.encode("utf-8", "backslashreplace").decode()
