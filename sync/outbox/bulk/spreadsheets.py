"""What spreadsheets make of codes when they open and save a file of them, which nobody sees on the screen.

Excel takes what looks like a number, a date or a truth for one, and saves its own writing of it: the code is lost, and
another would be sold in its place. What it does to zeros in front cannot be seen afterwards.
"""

import re

_MONTHS = (
    "Jan|Feb|Mar|Mär|Mrz|Apr|May|Mai|Jun|Jul|Aug|Sep|Sept|Oct|Okt|Nov|Dec|Dez|"
    "janv|févr|mars|avr|mai|juin|juil|août|sept|déc|gen|mag|giu|lug|ago|set|ott|dic|ene|abr|fev|out|dez|mrt|mei|maj|"
    "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|okt|nov|dec|sty|lut|kwi|cze|lip|sie|wrz|paź|lis|gru"
)
_ERRORS = (
    "(REF|BEZUG|RIF|VERW|ADR|HIV|VALUE|WERT|VALEUR|VALOR|VALORE|WAARDE|HODNOTA|ARG|ÉRTÉK|DIV/0|NUM|ZAHL|NOMBRE|NÚM|"
    "GETAL|ČÍSLO|LICZBA|SZÁM|NULL|NUL|NULO|NULLO|LEEG|ZERO|NULLA|SPILL|CALC|BLOCKED|FIELD|BŁĄD)!|"
    r"(NAME|NOM|NOMBRE|NOME|NAAM|NÁZEV|NAZWA|NÉV)\?"
)
_DAY, _MONTH, _YEAR = "(0?[1-9]|[12][0-9]|3[01])", "(0?[1-9]|1[0-2])", "(19|20)[0-9]{2}"
_TIME = r"\d{1,2}:\d{2}(:\d{2})?( ?[AaPp]\.?[Mm]\.?)?"
TRACES = {
    re.compile(r"[+-]?\d([.,]\d+)?[Ee][+-]\d+"): "is a number as a spreadsheet shortens it, and the digits are lost",
    re.compile(r"\d{15}0+"): "ends in zeros behind 15 digits, as a spreadsheet rounds a longer number",
    re.compile(r"\d+[.,]0+"): "is a number with a fraction, as a spreadsheet writes what was none",
    re.compile(r"=.*|'.+"): "is a formula of a spreadsheet, or marked as text for one",
    re.compile(rf"#(N/[AD]|NV|[¡¿]?({_ERRORS}))|#{{3,}}"): "is an error of a spreadsheet",
    re.compile("[\u201c-\u201f\u00ab\u00bb].*|.*[\u201c-\u201f\u00ab\u00bb]"): (
        "has a curly quote at an end, as a word processor or spreadsheet turns one"
    ),
    re.compile(r"\d{1,3}([.,'’\u00a0\u202f])\d{3}(\1\d{3})+"): "is a number in groups, as a spreadsheet shows one",
    re.compile(r"TRUE|FALSE|WAHR|FALSCH|VRAI|FAUX"): "is a truth value of a spreadsheet",
    re.compile(rf"\d{{1,2}}[-./ ]{{1,2}}({_MONTHS})\.?([-./ ]\d{{2,4}})?|({_MONTHS})\.?[-. ]\d{{2,4}}"): (
        "is a date as a spreadsheet writes it"
    ),
    re.compile(rf"(\d{{1,2}}([./])\d{{1,2}}\2(\d{{2}}|\d{{4}})|{_DAY}-{_MONTH}-{_YEAR})( {_TIME})?|{_TIME}"): (
        "is a date or time of a spreadsheet"
    ),
    re.compile(rf"{_YEAR}([-./] ?){_MONTH}\2{_DAY}\.?([ T]{_TIME})?"): "is a date of a spreadsheet, the year first",
}
"""By what a whole value looks like. A code may look so too: then somebody says that it is meant as it is."""

FORMULA = re.compile(r"\A(?=[=+\-@\t\r\n＝＋－＠])|(?<=[;\t\r\n])(?=[=+\-@＝＋－＠])")
"""Where what spreadsheets take for a formula begins: in a cell, and where they may part one in two."""


def damage(value: str) -> str:
    """What a spreadsheet has probably done to a code; nothing if it looks whole."""
    return next((trace for pattern, trace in TRACES.items() if pattern.fullmatch(value)), "")


def as_text(value: str) -> str:
    """A cell as a spreadsheet shows it, and does not run it: one that would begin a formula is marked as text.

    What stands in a code or a note anybody may have queued who may write the outbox, and a formula can call programs.
    """
    return FORMULA.sub("'", value)


def separator(line: str) -> str | None:
    """What Excel's own first line, such as `sep=;`, says that stands between columns; None if it is no such line."""
    said = re.fullmatch(r'"?sep=(.)"?[\s,;]*', line, re.IGNORECASE | re.DOTALL)
    return said[1] if said else None
