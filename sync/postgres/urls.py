"""What DATABASE_URL and SYNC_LISTEN_URL say, by libpq's own reading of them, and what is wrong with one.

No message shows any part of it that may belong to a password. That a password may be anywhere, as soon as an @ or a /
in it is not encoded, is why such a URL is refused before libpq would take a part of it for a host, and name that.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from os import environ
from typing import Any
from urllib.parse import parse_qsl

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, PGconn

from sync.core.errors import SettingsError

SHOWN = ("host", "hostaddr", "port", "dbname", "user")
ADDRESS_BESIDE = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
FORM = "give it as postgresql://user:password@host:5432/database"
ENCODED = "in the user and the password write @ as %40, / as %2F and % as %25"
NO_PARAMETERS = {"PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO"}
"""What libpq reads of the environment and has no parameter for."""
MAX_DIGITS = 10
"""Of a number of seconds that libpq can count."""
DRIVER = re.compile(r"\A(postgres(?:ql)?)\+\w+(?=://)")
"""SQLAlchemy's, in a URL alone: in pairs of names and values (`password=a+b dbname=c`) a plus is a part of one."""
NOWHERE = "/dev/null"
"""As a host: a directory of sockets in which nothing can be, so that libpq ends at once, after it has read all else."""
MAX_LABEL = 63
"""Of a name between two dots; Python's encoding of names fails on longer ones."""


def read_url(database_url: str, setting: str = "DATABASE_URL") -> dict[str, Any]:
    """libpq's parameters. `SettingsError` for what neither libpq nor psycopg can use, with the setting's name."""
    url = libpq_url(database_url.strip())
    if url.startswith(('"', "'")):
        raise SettingsError(f"{setting} stands in quotes: take them away")  # as `docker run --env-file` hands it on
    _refuse_ambiguous(url, setting)
    try:
        options = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Not chained: libpq's message may quote the URL.
        raise SettingsError(f"{setting} cannot be read: {FORM}; {_unknown_parameter(url) or ENCODED}") from None
    except UnicodeError:
        raise SettingsError(f"{setting} holds what is no text in UTF-8, or becomes so by a %: {ENCODED}") from None
    _refuse_unusable(options, setting)
    _refuse_what_libpq_refuses(options, setting)
    return options


def libpq_url(database_url: str) -> str:
    """The URL without SQLAlchemy's driver name, which libpq does not know."""
    return DRIVER.sub(r"\1", database_url)


def describe_address(database_url: str) -> str:
    """Where a URL leads, without its secrets."""
    options = read_url(database_url)
    return make_conninfo(**{name: str(options[name]) for name in SHOWN if options.get(name)})


def full_address(database_url: str) -> str:
    """The same with what libpq reads of it beside the URL, so that no two databases are called alike."""
    beside = [f"{name}={environ[name]}" for name in ADDRESS_BESIDE if environ.get(name)]
    return " ".join([describe_address(database_url), *beside])


def also_read() -> str:
    """In brackets, which variables are set that libpq reads beside the URL; nothing if there are none."""
    known = {one.envvar.decode() for one in Conninfo.get_defaults() if one.envvar} | NO_PARAMETERS
    beside = sorted(name for name in known if environ.get(name))
    return f" (what is set here and counts too: {', '.join(beside)})" if beside else ""


def _refuse_ambiguous(url: str, setting: str) -> None:
    _, separator, rest = url.partition("://")
    if separator and ("@" in rest.partition("@")[2] or ("/" in rest.partition("@")[0] and "@" in rest)):
        raise SettingsError(f"{setting} is ambiguous: {ENCODED}")
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise SettingsError(f"{setting} holds a line end or another control character: take it out")


def _unknown_parameter(url: str) -> str:
    """Which of the parameters behind the ? libpq does not know; in such a URL none of them is a part of a password."""
    _, separator, rest = url.partition("://")
    known = {one.keyword.decode() for one in Conninfo.get_defaults()}
    query = rest.rpartition("@")[2].partition("?")[2]
    for name, value in parse_qsl(query, keep_blank_values=True) if separator else ():
        if name == "ssl" and value != "true":
            return "libpq knows `ssl` only as ssl=true: `sslmode=require` or another mode is meant"
        if name not in known and name not in {"ssl", "requiressl"} and name.isidentifier():
            near = get_close_matches(name, known, n=1)
            return f"libpq knows no parameter `{name}`" + (f": is `{near[0]}` meant?" if near else "")
    return ""


def _refuse_unusable(options: Mapping[str, Any], setting: str) -> None:
    for port in str(options.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise SettingsError(f"{setting}: the port must be a number from 1 to 65535; {ENCODED}")
    timeout = str(options.get("connect_timeout") or "0")
    digits = timeout.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < MAX_DIGITS):
        raise SettingsError(f"{setting}: connect_timeout must be a number of seconds")
    hosts = str(options.get("host") or "").split(",")
    if any(_has_odd_label(host) for host in hosts if not host.startswith(("/", "@"))):
        raise SettingsError(f"{setting}: its host is no name that there can be; {FORM}; {ENCODED}")


def _refuse_what_libpq_refuses(options: Mapping[str, Any], setting: str) -> None:
    """What libpq finds wrong before it looks for a server, as an `sslmode` that there is not: no server mends that.

    The variables beside the URL count. A password of its own keeps libpq from reading files for one, and what stands in
    a file of services is not known here.
    """
    given: dict[str, Any] = {one.keyword.decode(): (one.val or b"").decode() for one in Conninfo.get_defaults()}
    given |= options
    if given.get("service"):
        return
    places = max(str(given[name]).count(",") for name in ("host", "hostaddr")) + 1
    tried = {**options, "host": ",".join([NOWHERE] * places), "hostaddr": "", "password": "none"}
    if given["gssencmode"] == "require":
        tried["gssencmode"] = "prefer"  # no socket has the other, and a server may
    connection = PGconn.connect_start(make_conninfo(**tried).encode())
    message = connection.error_message.decode("utf-8", "replace").partition("\n")[0]
    connection.finish()
    # Where no descriptor is left it says nothing, or why it has no socket: of the address that tells nothing.
    if message and NOWHERE not in message and "socket" not in message:
        # A value that libpq does not know may be anything, as where a & was not written plainly.
        words = re.sub(r'(?<=value): ".*', "", message, flags=re.DOTALL)
        raise SettingsError(f"{setting} cannot be used: {words}{also_read()}")


def _has_odd_label(host: str) -> bool:
    labels = host.rstrip(".").split(".")
    return (len(labels) > 1 and not all(labels)) or any(len(one) > MAX_LABEL for one in labels)
