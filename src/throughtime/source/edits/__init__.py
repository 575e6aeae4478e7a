"""Edits of a user's own source: minimal changes of its text, and versions of it that run."""
