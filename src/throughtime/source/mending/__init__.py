"""The search for the edits after which a user's gradient agrees."""
