"""The diagnosis's benchmark."""
