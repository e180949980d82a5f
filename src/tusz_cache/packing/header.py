"""The header of a `.npy` file: which array follows it.

numpy's own reader is not used: it has no public function for version 3, and warns on some odd headers instead of
refusing them. What is written by numpy reads the same; what is no plain array of real numbers is refused.
"""

import ast
import re
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

LONGEST = 10_000  # bytes of a header, about numpy's own limit

_MAGIC = b"\x93NUMPY"
_LENGTHS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # version -> bytes of the length field
_TEXT = 1_000  # characters between the padding; 32 axes fit, and no nesting that troubles the parser
_AXES = 32  # of numpy 1
_NUMBERS = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
_PARSING = threading.RLock()  # Python 3.11 counts the depth of all threads' parsing as one, and may stumble over it


@dataclass(frozen=True, slots=True)
class Header:
    """What array follows, and where it begins."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # byte order as in the file
    fortran: bool  # the first axis varies fastest
    length: int  # bytes before the array, magic and all


def parse_header(head: bytes) -> Header:
    """Return a `.npy` file's header. head: its first `LONGEST` bytes. Raises ValueError, saying what is wrong."""
    version = (head[6], head[7]) if head.startswith(_MAGIC) and len(head) >= 12 else (0, 0)
    if version not in _LENGTHS:
        raise ValueError("it does not begin as a .npy file of version 1, 2 or 3")
    start = 8 + _LENGTHS[version]
    end = start + int.from_bytes(head[8:start], "little")
    if end > len(head):
        raise ValueError(f"its header would have {end} bytes")
    text = head[start:end].decode("latin-1").strip()
    try:
        with _PARSING:
            fields = ast.literal_eval(text) if len(text) <= _TEXT else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("its header cannot be read") from error
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header is not that of an array")
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if not isinstance(descr, str) or not _NUMBERS.fullmatch(descr):
        raise ValueError(f"it holds {descr!r:.100}, no plain numbers; pickled objects are never loaded")
    if type(fortran) is not bool or not isinstance(shape, tuple) or len(shape) > _AXES:
        raise ValueError("its header is not that of an array")
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise ValueError(f"its shape {shape!r:.100} makes no sense")
    return Header(shape, np.dtype(descr), fortran, end)
