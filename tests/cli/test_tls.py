"""A database over TLS: only the server that is meant is spoken to, as the manifests and instructions have it."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sync.cli.check_database import check_database
from tests.support.tls import NAME, make_authority, make_certificate, over_tls

from .conftest import Cli

pytestmark = [pytest.mark.direct, pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")]


def by_url(url: str, authority: Path) -> dict[str, str]:
    """All of it in DATABASE_URL."""
    return {"DATABASE_URL": f"{url}?sslmode=verify-full&sslrootcert={authority}"}


def by_environment(url: str, authority: Path) -> dict[str, str]:
    """As the component for Kubernetes has it."""
    return {"DATABASE_URL": url, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(authority)}


def by_the_machine(url: str, authority: Path) -> dict[str, str]:
    """The authorities that the machine knows."""
    return {"DATABASE_URL": f"{url}?sslmode=verify-full&sslrootcert=system", "SSL_CERT_FILE": str(authority)}


@pytest.mark.long
@pytest.mark.parametrize("settings", [by_url, by_environment, by_the_machine])
async def test_a_server_is_spoken_to_only_where_its_authority_signed_for_its_name(
    cli: Cli, database_url: str, tmp_path: Path, settings: Callable[[str, Path], dict[str, str]]
) -> None:
    right, other = (make_authority(tmp_path, name) for name in ("right", "other"))
    async with over_tls(database_url, make_certificate(tmp_path, right)) as url:
        meant = await cli("migrate", settings=settings(url.format(host=NAME), right))
        forged = await cli("migrate", settings=settings(url.format(host=NAME), other))
        elsewhere = await cli("migrate", settings=settings(url.format(host="127.0.0.1"), right))
    assert (meant.code, forged.code, elsewhere.code) == (0, 1, 1), (meant, forged, elsewhere)
    assert "certificate verify failed: it has expired, or no authority of `sslrootcert`" in forged.stderr
    assert 'does not match host name "127.0.0.1"' in elsewhere.stderr


@pytest.mark.parametrize(
    ("mode", "told"),
    [("verify-full", "; over TLS, as the certificate's own name"), ("require", "; over TLS (sslmode=require; only")],
)
async def test_a_check_tells_whether_the_certificate_is_looked_at(
    database_url: str, tmp_path: Path, mode: str, told: str
) -> None:
    right = make_authority(tmp_path, "right")
    async with over_tls(database_url, make_certificate(tmp_path, right)) as url:
        given = f"{url.format(host=NAME)}?sslmode={mode}&sslrootcert={right}"
        server, *_ = await asyncio.to_thread(check_database, given, 5)
    assert told in server.detail
