"""The user's own source: what can be checked in a file, which line is wrong, and its mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door

if TYPE_CHECKING:
    from throughtime.source.child import apart, tell
    from throughtime.source.finding.candidates import Candidate, candidates
    from throughtime.source.finding.find import Found, find
    from throughtime.source.finding.given import OPTIONS, found_in_object, is_object
    from throughtime.source.finding.training_steps import regions
    from throughtime.source.lines.annotate import LineFinding, annotate, first_wrong
    from throughtime.source.lines.annotated import annotated_text
    from throughtime.source.lines.which_line import causes_beside, which_line
    from throughtime.source.mending.residue import checked_without_safety
    from throughtime.source.printing import as_python
    from throughtime.source.recipe import Program, Recipe
    from throughtime.source.slices import Slices
    from throughtime.source.text import SourceText, parsed, read_source
else:
    __getattr__ = door(
        __name__,
        {
            "child": "apart tell",
            "finding.candidates": "Candidate candidates",
            "finding.find": "Found find",
            "finding.given": "OPTIONS found_in_object is_object",
            "finding.training_steps": "regions",
            "lines.annotate": "LineFinding annotate first_wrong",
            "lines.annotated": "annotated_text",
            "lines.which_line": "causes_beside which_line",
            "mending.residue": "checked_without_safety",
            "printing": "as_python",
            "recipe": "Program Recipe",
            "slices": "Slices",
            "text": "SourceText parsed read_source",
        },
    )

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
    "causes_beside",
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
