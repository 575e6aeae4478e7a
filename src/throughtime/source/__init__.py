"""The user's own source: what can be checked in a file, which line is wrong, and its mend."""

from throughtime.source.candidates import Candidate, candidates
from throughtime.source.child import apart
from throughtime.source.finding import Found, find
from throughtime.source.printing import as_python
from throughtime.source.recipe import Program, Recipe
from throughtime.source.slices import Slices
from throughtime.source.text import SourceText, read_source

__all__ = [
    "Candidate",
    "Found",
    "Program",
    "Recipe",
    "Slices",
    "SourceText",
    "apart",
    "as_python",
    "candidates",
    "find",
    "read_source",
]
