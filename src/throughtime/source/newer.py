"""Files that Python does not take as they stand, though their text leaves no doubt.

From Python 3.12 on, what stands in the braces of an f-string may have the quotes that the string
itself has, `f"{" ".join(words)}"`, and backslashes. Here such quotes become others, each in its
place, so that every line and column stays what it was. A first line that is indented by a slip is
not.
"""

from __future__ import annotations

import ast
import re

OPENING = re.compile(r"(?<![\w.])(?P<prefix>[rRbBuUfF]{0,2})(?P<quote>\"\"\"|'''|\"|')")
OTHER = {'"': "'", "'": '"'}


def as_it_is_meant(text: str) -> str:
    r"""A file whose first line is not indented, and whose f-strings have no quotes of their own.

    A text that parses, and one that does not parse with these changes either, stays as it is.

    Args:
        text: of a file.

    Example:
        >>> as_it_is_meant(" x = 1\n")
        'x = 1\n'
    """
    if _parses(text):
        return text
    for changed in (text.lstrip(" \t"), _changed(text)):
        if changed != text and _parses(changed):
            return changed
    return text


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _changed(text: str) -> str:
    """The text with the quotes within the braces of its f-strings changed."""
    parts: list[str] = []
    place = 0
    while place < len(text):
        if text[place] == "#":
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            parts.append(text[place:end])
            place = end
            continue
        found = OPENING.match(text, place)
        if found is None:
            parts.append(text[place])
            place += 1
            continue
        quote, formatted = found["quote"], "f" in found["prefix"].lower()
        end, inner = _string(text, found.end(), quote, formatted)
        parts.append(found[0] + inner)
        place = end
    return "".join(parts)


def _string(text: str, place: int, quote: str, formatted: bool) -> tuple[int, str]:
    """Where a string ends, and its text from behind its opening quote on.

    A line's end also ends a string with single quotes, as what is no string is left alone.
    """
    parts: list[str] = []
    depth = 0
    while place < len(text):
        here = text[place]
        if here == "\n" and len(quote) == 1:
            return place, "".join(parts)
        if not depth and here == "\\":
            parts.append(text[place : place + 2])
            place += 2
        elif not depth and text.startswith(quote, place):
            parts.append(quote)
            return place + len(quote), "".join(parts)
        elif formatted and not depth and text[place : place + 2] in ("{{", "}}"):
            parts.append(text[place : place + 2])
            place += 2
        elif formatted and here in "{}":
            depth = max(0, depth + (1 if here == "{" else -1))
            parts.append(here)
            place += 1
        elif depth and here == quote and (end := text.find(quote, place + 1)) > 0:
            parts.append(OTHER[quote] + text[place + 1 : end] + OTHER[quote])
            place = end + 1
        else:
            parts.append(here)
            place += 1
    return place, "".join(parts)
