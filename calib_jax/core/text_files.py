"""Text and JSON of files that anything may have written."""

from __future__ import annotations

import json
import re
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """The value that JSON stands for.

    Raises:
        ValueError: It is no JSON, is not UTF-8, or is nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def lines(content: bytes) -> list[str]:
    """The lines of a UTF-8 file, with or without a byte order mark.

    They end as those of editors do: `str.splitlines` would cut at U+2028, U+0085 and form feeds
    too, which may stand in a name.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    text = content.decode("utf-8-sig")
    found = re.split(r"\r\n|\n|\r", text)
    return found if found[-1] else found[:-1]
