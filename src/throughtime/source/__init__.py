"""The user's own source: what can be checked in a file, which line is wrong, and its mend."""

from throughtime.source.annotated import annotated_text
from throughtime.source.candidates import Candidate, candidates
from throughtime.source.child import apart, tell
from throughtime.source.finding import Found, find
from throughtime.source.given import OPTIONS, found_in_object, is_object
from throughtime.source.lines import LineFinding, annotate, first_wrong
from throughtime.source.printing import as_python
from throughtime.source.recipe import Program, Recipe
from throughtime.source.residue import checked_without_safety
from throughtime.source.slices import Slices
from throughtime.source.text import SourceText, parsed, read_source
from throughtime.source.training_steps import regions
from throughtime.source.which_line import which_line

__all__ = [
    "OPTIONS",
    "Candidate",
    "Found",
    "LineFinding",
    "Program",
    "Recipe",
    "Slices",
    "SourceText",
    "annotate",
    "annotated_text",
    "apart",
    "as_python",
    "candidates",
    "checked_without_safety",
    "find",
    "first_wrong",
    "found_in_object",
    "is_object",
    "parsed",
    "read_source",
    "regions",
    "tell",
    "which_line",
]
