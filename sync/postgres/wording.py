"""What may be told of an error of the database's: its code, and names.

Its texts may quote a code's value: `Key (value)=(...) already exists`, what an index on an expression could not read,
whatever the trigger of a user says.
"""

import errno
import os
import re

import psycopg
from psycopg.errors import Diagnostic

from sync.core.descriptors import is_one_left
from sync.core.printable import printable

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
_NAME = r'(?<![A-Za-z0-9_$.])((?:[a-z0-9_$]+|"[\w$ ]+")(?:\.(?:[a-z0-9_$]+|"[\w$ ]+"))?)'
FUNCTION = re.compile(rf'(?!COPY\b)(?=.*PL/)[^"(]*"?{_NAME}\([\w ,."\[\]]*\)"?[^"(]*')
"""The last line of an error's context: the function that a statement of ours has set off. Servers say it in seventeen
languages, so it is found by its name and brackets; a line with other brackets, or with a value in quotes, is none."""
OUR_FUNCTION = re.compile(r"(?<![A-Za-z0-9_$.])sync\.\w+\(\)")
SQL = re.compile(r"\bSQL\b", re.ASCII)
BLOCK = "inline_code_block"
"""What stands for the name of a block that is no function."""
INTERRUPTIONS = ("ProcessInterrupts", "DeadLockReport")
"""Where PostgreSQL itself ends a function: somebody cancelled it, a time-out, a deadlock."""
UNSAID = "no error details available"
"""What the driver says where the operating system gave it no socket."""
UNVERIFIED = "certificate verify failed"
"""What libpq says of a server's certificate that it does not trust, whatever it is that is wrong with it."""
CAUSES_OF_UNVERIFIED = "it has expired, or no authority of `sslrootcert` (PGSSLROOTCERT) has signed it"
OUT_OF_ROOM = ("53100", "53200")
RAISED = "exec_stmt_raise"
"""Where PostgreSQL itself raises what a function in PL/pgSQL has asked for."""


def words_of(cause: BaseException | None) -> str:
    """An error of psycopg's in words that hold no value: why there is no connection, or what sort of error it is.

    What answers in the server's place, or is called by a name, may hold what moves a terminal's cursor: that is out.
    """
    return printable(_words_of(cause))


def _words_of(cause: BaseException | None) -> str:
    if not isinstance(cause, psycopg.Error):
        return type(cause).__name__
    if cause.sqlstate is None:
        is_of_driver = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        if UNSAID in str(cause) and not is_one_left():
            return f"{os.strerror(errno.EMFILE)} (`ulimit -n`)"
        words = str(cause).strip().partition("\n")[0] if is_of_driver else type(cause).__name__
        return f"{words}: {CAUSES_OF_UNVERIFIED}" if words.endswith(UNVERIFIED) else words
    is_of_the_line = cause.sqlstate.startswith(LINE) and cause.diag.context is None
    is_of_form = cause.sqlstate in OF_FORM and cause.diag.context is None
    if cause.sqlstate == UNFIT_FOR_PUBLICATION and cause.diag.context is None and cause.diag.message_detail:
        return f"{cause.diag.message_primary}: {cause.diag.message_detail}"
    if is_of_the_line or is_of_form or is_about_statement(cause) or _is_own_rule(cause.diag):
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
    set_off = set_off_by_ours(cause.diag.context)
    is_users = ("PL/" in set_off or SQL.search(set_off) is not None) and BLOCK not in set_off
    is_told_by_it = cause.diag.severity_nonlocalized == "ERROR" and cause.diag.source_function not in INTERRUPTIONS
    return is_users and is_told_by_it and cause.sqlstate not in OUT_OF_ROOM


def _where(diag: Diagnostic) -> str:
    set_off = set_off_by_ours(diag.context or "")
    table = ".".join(name for name in (diag.schema_name, diag.table_name or diag.datatype_name) if name)
    kinds = {"column": diag.column_name, "constraint": diag.constraint_name}
    named = [f"{kind} {name}" for kind, name in kinds.items() if name]
    if diag.context is not None and (set_off or not named):
        # A function may give an error any names it likes.
        function = function_of(set_off or diag.context.rpartition("\n")[2])
        return f" in function {function}" if function else ""
    return "".join([*(f", {one}" for one in named), f" of {table}" if table else ""])


def set_off_by_ours(context: str) -> str:
    """The outermost line of a context that is not about a function of ours; nothing where there is no other.

    Below a function of ours stands its statement, of several lines, that has set another one off.
    """
    lines = context.split("\n")
    while lines and OUR_FUNCTION.search(lines[-1]):
        lines.pop()
        while lines and not SQL.search(lines[-1]):
            lines.pop()
        del lines[-1:]
    return lines[-1] if lines else ""


def function_of(line: str) -> str | None:
    """The name of the function that a line of a context is about."""
    function = FUNCTION.fullmatch(line)
    return function[1] if function else None


def _is_own_rule(diag: Diagnostic) -> bool:
    """Whether it is what a trigger of ours refuses: it says so without a value, and nobody else's trigger spoke."""
    return (function_of(diag.context or "") or "").startswith("sync.") and diag.source_function == RAISED
