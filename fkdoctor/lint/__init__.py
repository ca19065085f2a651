"""What a migration would do to keys and rows: its statements, judged against a live database.

`source` finds statements in SQL files and Alembic revisions, `ddl` reads those that change keys,
`judge` says which locks they take, how many rows they meet, and what to write in their place.
"""
