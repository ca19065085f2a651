"""Delete and merge rows in PostgreSQL without breaking anything that points at them."""

__version__ = "0.1.0"
