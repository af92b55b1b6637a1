"""What connections are called."""

import unicodedata


def composed(name: str) -> str:
    """A name in one form of Unicode, NFC, of those that look the same: `é` may be one character, or two."""
    return unicodedata.normalize("NFC", name)
