"""What spreadsheets make of codes when they open and save a file of them, which nobody sees on the screen.

Excel takes what looks like a number, a date or a truth for one, and saves its own writing of it: the code is lost, and
another would be sold in its place. What it does to zeros in front cannot be seen afterwards.
"""

import re

_MONTHS = "Jan|Feb|Mar|Mär|Mrz|Apr|May|Mai|Jun|Jul|Aug|Sep|Sept|Oct|Okt|Nov|Dec|Dez"
TRACES = {
    re.compile(r"[+-]?\d([.,]\d+)?[Ee][+-]\d+"): "is a number as a spreadsheet shortens it, and the digits are lost",
    re.compile(r"\d{15}0+"): "ends in zeros behind 15 digits, as a spreadsheet rounds a longer number",
    re.compile(r"\d+[.,]0+"): "is a number with a fraction, as a spreadsheet writes what was none",
    re.compile(r"=.*|'.+"): "is a formula of a spreadsheet, or marked as text for one",
    re.compile(r"#(N/A|NV|REF!|BEZUG!|NAME\?|VALUE!|WERT!|DIV/0!|NUM!|ZAHL!|NULL!|SPILL!|CALC!)|#{3,}"): (
        "is an error of a spreadsheet"
    ),
    re.compile(r"TRUE|FALSE|WAHR|FALSCH|VRAI|FAUX"): "is a truth value of a spreadsheet",
    re.compile(rf"\d{{1,2}}[-. ]{{1,2}}({_MONTHS})\.?([-. ]\d{{2,4}})?|({_MONTHS})[-. ]\d{{2,4}}"): (
        "is a date as a spreadsheet writes it"
    ),
    re.compile(r"\d{1,2}([./])\d{1,2}\1(\d{2}|\d{4})|\d{1,2}:\d{2}(:\d{2})?"): "is a date or time of a spreadsheet",
}
"""By what a whole value looks like. A code may look so too: then somebody says that it is meant as it is."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for a formula begins so."""


def damage(value: str) -> str:
    """What a spreadsheet has probably done to a code; nothing if it looks whole."""
    return next((trace for pattern, trace in TRACES.items() if pattern.fullmatch(value)), "")


def as_text(value: str) -> str:
    """A cell as a spreadsheet shows it, and does not run it: one that would begin a formula is marked as text.

    What stands in a code or a note anybody may have queued who may write the outbox, and a formula can call programs.
    """
    return f"'{value}" if value.startswith(FORMULA) else value


def separator(line: str) -> str | None:
    """What Excel's own first line, such as `sep=;`, says that stands between columns; None if it is no such line."""
    said = re.fullmatch(r'"?sep=(.)"?[\s,;]*', line, re.IGNORECASE | re.DOTALL)
    return said[1] if said else None
