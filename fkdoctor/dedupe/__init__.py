"""Merging duplicates: match → cluster → survivor → plan → apply → undo."""
