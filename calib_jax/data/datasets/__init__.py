"""Data sets: one a file, with what the field agrees on (class names, templates, splits)."""
