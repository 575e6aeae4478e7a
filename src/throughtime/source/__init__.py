"""The user's own source: what can be checked in a file, which line is wrong, and its mend."""

from throughtime.source.annotated import annotated_text
from throughtime.source.lines import LineFinding, annotate, first_wrong
from throughtime.source.recipe import Program, Recipe
from throughtime.source.text import SourceText, read_source

__all__ = [
    "LineFinding",
    "Program",
    "Recipe",
    "SourceText",
    "annotate",
    "annotated_text",
    "first_wrong",
    "read_source",
]
