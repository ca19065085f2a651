"""Soft deletes along the foreign keys, taken back as they were made; and the purge of old ones."""
