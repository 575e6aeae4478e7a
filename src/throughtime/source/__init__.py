"""The user's own source: what can be checked in a file, which line is wrong, and its mend."""

from throughtime.source.recipe import Program, Recipe
from throughtime.source.text import SourceText, read_source

__all__ = ["Program", "Recipe", "SourceText", "read_source"]
