"""Characters beyond ASCII, and what stands for them where they can't be shown."""

from __future__ import annotations

_PLAIN = str.maketrans({"✔": "+", "⚠": "!", "✖": "x", "·": "-", "→": "->", "…": "...", "–": "-"})


def fit_encoding(text: str, encoding: str) -> str:
    """The text with only characters that the encoding has; names in others become escapes."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN)
    return text.encode(encoding, "backslashreplace").decode(encoding)
