"""Values → text, JSON and Markdown. Nothing here reads a database or writes to a screen."""
