"""Backups of a test's database, as an operator makes and restores them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from sync.postgres.embedded.programs import psql_path
from tests.support.postgres import database_of, in_database


def dump(url: str, path: Path, *how: str) -> Path:
    """`pg_dump` of a database, as deploy/README.md has it."""
    subprocess.run([psql_path().with_name("pg_dump"), "--format=custom", *how, f"--file={path}", url], check=True)
    return path


def restore(url: str, path: Path) -> None:
    """Loses the database at `url`, makes it anew under its name and restores the dump."""
    name = sql.Identifier(database_of(url))
    with psycopg.connect(in_database(url, "postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
    subprocess.run(
        [psql_path().with_name("pg_restore"), "--no-owner", "--exit-on-error", f"--dbname={url}", str(path)], check=True
    )


def restore_part(url: str, path: Path, *how: str) -> None:
    """Restores a part of a dump into the database as it is."""
    program = str(psql_path().with_name("pg_restore"))
    subprocess.run([program, "--no-owner", "--exit-on-error", *how, f"--dbname={url}", str(path)], check=True)


def restore_what_can_be(url: str, path: Path) -> str:
    """Restores a dump as docs/bi.md has it; what it says of the rest."""
    program = str(psql_path().with_name("pg_restore"))
    command = [program, "--no-owner", "--no-privileges", f"--dbname={url}", str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stderr


@contextmanager
def copy_of(url: str, path: Path) -> Iterator[str]:
    """The URL of a second database, made of a dump of the first."""
    other = in_database(url, f"{database_of(url)}_copy")
    restore(other, dump(url, path))
    yield other
    with psycopg.connect(in_database(url, "postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database_of(other))))
