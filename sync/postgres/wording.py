"""What may be told of an error of the database's: its code, and names.

Its texts may quote a code's value: `Key (value)=(...) already exists`, what an index on an expression could not read,
whatever the trigger of a user says.
"""

import re

import psycopg
from psycopg.errors import Diagnostic

LINE = "08"
"""The class of errors of the connection: a pooler's own, which knows of no values."""
ABOUT_STATEMENTS = ("42", "3F")
"""Classes of errors that are found in the text of a statement, where ours have names and no values."""
OF_FORM = ("0A000", "55000")
"""A statement of a form that the table does not take, as for a rule on it, or for a publication of it."""
UNFIT_FOR_PUBLICATION = "42P10"
"""Why a publication of a table forbids to update it, stands in the detail: its list of columns, or its condition."""
DEPENDENT = "2BP01"
"""Something cannot be dropped; the detail has the names of what depends on it, a line each."""
NEW_LINE = "\n"
FUNCTION = re.compile(r'PL/\w+ function ((?:[\w$]+|"[\w$ ]+")(?:\.(?:[\w$]+|"[\w$ ]+"))?)\([\w ,."\[\]]*\) line \d+ .*')
"""The last line of an error's context: the function that a statement of ours has set off."""
ANY_FUNCTION = re.compile(r'PL/\w+.*[\w"]\(|\bSQL\b')
"""The same in any of PostgreSQL's languages, or of a function in SQL; not of a block that is none, nor of a lock."""
INTERRUPTIONS = ("ProcessInterrupts", "DeadLockReport")
"""Where PostgreSQL itself ends a function: somebody cancelled it, a time-out, a deadlock."""
OUT_OF_ROOM = ("53100", "53200")
OWN_RULE = re.compile(r"PL/pgSQL function sync\.\w+\(\) line \d+ at RAISE")
"""The whole context of what a trigger of ours refuses: it says so without a value, and nobody else's trigger spoke."""


def words_of(cause: BaseException | None) -> str:
    """An error of psycopg's in words that hold no value: why there is no connection, or what sort of error it is."""
    if not isinstance(cause, psycopg.Error):
        return type(cause).__name__
    if cause.sqlstate is None:
        is_of_driver = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        return str(cause).strip().partition("\n")[0] if is_of_driver else type(cause).__name__
    is_of_the_line = cause.sqlstate.startswith(LINE) and cause.diag.context is None
    is_of_form = cause.sqlstate in OF_FORM and cause.diag.context is None
    if cause.sqlstate == UNFIT_FOR_PUBLICATION and cause.diag.context is None and cause.diag.message_detail:
        return f"{cause.diag.message_primary}: {cause.diag.message_detail}"
    if is_of_the_line or is_of_form or is_about_statement(cause) or OWN_RULE.fullmatch(cause.diag.context or ""):
        return cause.diag.message_primary or type(cause).__name__
    dependent = cause.diag.message_detail if cause.sqlstate == DEPENDENT and cause.diag.context is None else None
    named = f": {dependent.replace(NEW_LINE, ', ')}" if dependent else _where(cause.diag)
    return f"{type(cause).__name__}{named}"


def is_about_statement(cause: BaseException | None) -> bool:
    """Whether it is for the statement's own text that it was refused, and not for what a function in it has done."""
    if not isinstance(cause, psycopg.Error) or cause.sqlstate is None:
        return False
    return cause.sqlstate.startswith(ABOUT_STATEMENTS) and cause.diag.context is None


def is_lack_of_privilege(cause: BaseException | None) -> bool:
    """Whether the session's user may not do what a statement of ours does; a policy's words for one row are others."""
    if not isinstance(cause, psycopg.errors.InsufficientPrivilege) or not is_about_statement(cause):
        return False
    return cause.diag.source_function == "aclcheck_error"


def is_of_users_function(cause: BaseException | None) -> bool:
    """Whether a function of a user's failed, as of a trigger: then the error's code tells of what that met, maybe at
    another server, and nothing of this one. Disk and memory are this one's whoever needs more of them."""
    if not isinstance(cause, psycopg.Error) or cause.diag.context is None:
        return False
    outermost = cause.diag.context.rpartition("\n")[2]
    is_users = ANY_FUNCTION.search(outermost) is not None and " sync." not in outermost
    is_told_by_it = cause.diag.severity_nonlocalized == "ERROR" and cause.diag.source_function not in INTERRUPTIONS
    return is_users and is_told_by_it and cause.sqlstate not in OUT_OF_ROOM


def _where(diag: Diagnostic) -> str:
    if diag.context is not None:
        # A function may give an error any names it likes.
        function = FUNCTION.fullmatch(diag.context.rpartition("\n")[2])
        return f" in function {function[1]}" if function else ""
    table = ".".join(name for name in (diag.schema_name, diag.table_name or diag.datatype_name) if name)
    kinds = {"column": diag.column_name, "constraint": diag.constraint_name}
    named = [f"{kind} {name}" for kind, name in kinds.items() if name]
    return "".join([*(f", {one}" for one in named), f" of {table}" if table else ""])
