"""Database → Schema (`catalog`), and the pure thinking over it (`coverage`, `graph`).

Imports nothing, so that who only thinks does not import SQLAlchemy.
"""
