"""Every statement that names a user's table or column, composed with SQLAlchemy Core.

Core quotes the identifiers; nothing here formats a string around them. `parts` holds the pieces,
`members` what a dedupe asks and does, `journal` how it is written down and undone, `expression`
what a user typed.
"""
