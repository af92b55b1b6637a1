"""`postgres-owner.sql`, always on a server that was made for it: it changes roles, which are the whole server's."""

import base64
import hashlib
import hmac
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sync.postgres.embedded import embedded_postgres, psql_path
from sync.postgres.migrations import migrate

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres-owner.sql"
PASSWORD = "it's a 'pass' \\word"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that the script has run in, as the superuser."""
    secret = tmp_path_factory.mktemp("secrets") / "postgres_password"
    secret.write_text(PASSWORD + "\n")
    script = SCRIPT.read_text().replace("/run/secrets/postgres_password", str(secret))
    with (
        tempfile.TemporaryDirectory(prefix="voucher-sync-tests-", ignore_cleanup_errors=True) as directory,
        embedded_postgres(Path(directory)) as url,
    ):
        options = ["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file=-", url]
        subprocess.run([psql_path(), *options], input=script, text=True, check=True, capture_output=True)
        yield url


def fits(password: str, verifier: str | None) -> bool:
    """Whether `verifier`, as `pg_authid` keeps it, is of `password` (RFC 5802: `StoredKey`)."""
    kind, iterations_and_salt, keys = (verifier or "").split("$")
    iterations, salt = iterations_and_salt.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return kind == "SCRAM-SHA-256" and stored == base64.b64decode(keys.split(":")[0])


@pytest.mark.long
def test_the_daemons_role_owns_the_database_and_is_no_superuser(url: str) -> None:
    with psycopg.connect(url) as connection:
        powers = connection.execute(
            "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
            " FROM pg_roles WHERE rolname = 'voucher_sync'"
        ).fetchone()
        owner = connection.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        ).fetchone()

    assert powers == (True, False, False, False, False, False)
    assert owner == ("voucher_sync",)


@pytest.mark.long
def test_its_password_is_the_secrets_first_line_and_the_superuser_has_none(url: str) -> None:
    with psycopg.connect(url) as connection:
        passwords: dict[str, str | None] = dict(
            connection.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin").fetchall()
        )

    assert passwords["postgres"] is None
    assert fits(PASSWORD, passwords["voucher_sync"])
    assert not fits("postgres", passwords["voucher_sync"])


@pytest.mark.long
def test_it_can_migrate_and_the_roles_for_bi_and_applications_get_what_they_are_for(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT voucher_sync TO postgres")
        connection.execute("ALTER ROLE postgres SET role = 'voucher_sync'")

    migrate(url)

    with psycopg.connect(url) as connection:
        allowed = connection.execute(
            "SELECT current_user, has_table_privilege('mews_reader', 'mews.voucher_codes', 'SELECT'),"
            " has_schema_privilege('mews_reader', 'sync', 'USAGE'),"
            " has_column_privilege('mews_writer', 'mews.voucher_code_outbox', 'operation', 'INSERT'),"
            " (SELECT rolcanlogin FROM pg_roles WHERE rolname = 'mews_reader')"
        ).fetchone()

    assert allowed == ("voucher_sync", True, False, True, False)
