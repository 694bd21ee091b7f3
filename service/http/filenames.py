"""What a client calls its file: kept to be shown, never part of a path."""

import unicodedata

MOST_CHARACTERS = 255
_DROPPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control characters, what turns the text around, ends of lines


def cleaned(name: str) -> str | None:
    """The name without what can't be seen, and not too long; None where nothing is left."""
    seen = "".join(character for character in name[: 4 * MOST_CHARACTERS] if unicodedata.category(character) not in _DROPPED)
    return seen.strip()[:MOST_CHARACTERS] or None
