"""How reports and verdicts are laid out for a person: (label, value, ...) rows as text or as HTML."""

import html
from collections.abc import Sequence
from itertools import zip_longest

Row = tuple[str, ...]  # label, value, and more values where there are several columns


def as_table(rows: Sequence[Row]) -> str:
    """Lay out rows as text."""
    columns = zip_longest(*(row[:-1] for row in rows), fillvalue="")
    widths = [max(len(printable(cell)) for cell in column) for column in columns]
    return "\n".join(
        "  ".join(
            [
                *(f"{printable(cell):<{width}}" for cell, width in zip(row[:-1], widths, strict=False)),
                printable(row[-1]),
            ]
        )
        for row in rows
    )


def as_html(title: str, rows: Sequence[Row]) -> str:
    """Lay out rows for a notebook."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(printable(label))}</th>"
        + "".join(f"<td>{html.escape(printable(value))}</td>" for value in values)
        + "</tr>"
        for label, *values in rows
    )
    return f"<table><caption>{html.escape(printable(title))}</caption>{cells}</table>"


def printable(text: str) -> str:
    """File names may be no valid Unicode; what is shown is."""
    return text.encode("utf-8", "backslashreplace").decode()
