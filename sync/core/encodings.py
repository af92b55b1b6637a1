"""In what encoding users' files are: what editors, spreadsheets and shells save as text."""

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def encoding_of(beginning: bytes) -> str:
    """A file's encoding, by its first two bytes: UTF-8, or UTF-16 with its mark, as Excel's "Unicode text"."""
    return "utf-16" if beginning.startswith(UTF_16_MARKS) else "utf-8-sig"
