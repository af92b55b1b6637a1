"""Roles that were not there at the migration get what they are for at any time; what we may not do is said as SQL."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from sync.postgres.migrations import make_migration_engine, migrate
from sync.service import roles
from sync.service.roles import Role, look, mend
from tests.support.hostile import new_login, new_owner

NAMES = ("READER", "WRITER", "OPERATOR")
PRIVILEGES = """
SELECT namespace.nspname, class.relname, attribute.attname, given.privilege_type
FROM pg_class AS class
JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace AND namespace.nspname IN ('mews', 'sync')
LEFT JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND NOT attribute.attisdropped
CROSS JOIN LATERAL (
  SELECT * FROM aclexplode(class.relacl) UNION ALL SELECT * FROM aclexplode(attribute.attacl)
) AS given
WHERE given.grantee = %s::regrole
UNION ALL SELECT nspname, NULL, NULL, given.privilege_type FROM pg_namespace CROSS JOIN aclexplode(nspacl) AS given
WHERE given.grantee = %s::regrole
UNION ALL SELECT defaclnamespace::regnamespace::text, NULL, defaclobjtype::text, given.privilege_type
FROM pg_default_acl CROSS JOIN aclexplode(defaclacl) AS given WHERE given.grantee = %s::regrole
"""


def found(url: str) -> list[Role]:
    """The roles as they are."""
    with make_migration_engine(url).connect() as connection:
        return look(connection)


def privileges(url: str, role: str) -> set[tuple[object, ...]]:
    """Everything that a role was granted in a database."""
    with psycopg.connect(url) as session:
        return set(session.execute(PRIVILEGES, [role] * 3).fetchall())


@pytest.fixture
def later(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, ...]]:
    """Names of roles that were not there when the database was migrated, and are gone afterwards."""
    names = tuple(f"test_{one.lower()}_{uuid4().hex}" for one in NAMES)
    for constant, name in zip(NAMES, names, strict=True):
        monkeypatch.setattr(roles, constant, name)
    yield names
    with psycopg.connect(database_url, autocommit=True) as admin:
        for name in names:
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                admin.execute(f"DROP OWNED BY {name}".encode())
                admin.execute(f"DROP ROLE {name}".encode())


def test_roles_that_stood_at_the_migration_lack_nothing(database_url: str) -> None:
    assert all(role.is_ready for role in found(database_url))
    mended = mend(database_url)
    assert (mended.made, mended.granted, mended.left) == ([], False, [])


def test_roles_that_are_made_later_get_the_same(database_url: str, later: tuple[str, ...]) -> None:
    assert [(role.name, role.members) for role in found(database_url)] == [(name, None) for name in later]
    mended = mend(database_url)
    assert (mended.made, mended.granted, mended.left) == (list(later), True, [])
    assert all(role.is_ready for role in mended.roles)
    for name, usual in zip(later, ("mews_reader", "mews_writer", "mews_operator"), strict=True):
        assert privileges(database_url, name) == privileges(database_url, usual)


@pytest.mark.long
def test_who_may_make_no_roles_says_what_is_to_be_run_and_then_grants(
    empty_database_url: str, later: tuple[str, ...]
) -> None:
    with new_owner(empty_database_url) as owner:
        migrate(owner)
        mended = mend(owner)
        assert (mended.made, mended.granted) == ([], False)
        assert mended.left == [f'CREATE ROLE "{name}" NOLOGIN;' for name in later]
        with psycopg.connect(empty_database_url, autocommit=True) as admin:
            for statement in mended.left:
                admin.execute(statement.encode())
        assert [bool(role.lacks) for role in found(owner)] == [True] * 3
        mended = mend(owner)
        assert (mended.made, mended.granted, mended.left) == ([], True, [])
        assert all(role.is_ready for role in mended.roles)


def test_who_does_not_own_the_schema_says_what_is_to_be_granted(database_url: str, later: tuple[str, ...]) -> None:
    with new_login(database_url, "IN ROLE mews_reader") as reader:
        with psycopg.connect(database_url, autocommit=True) as admin:
            for name in later:
                admin.execute(f"CREATE ROLE {name} NOLOGIN".encode())
        mended = mend(reader)
        assert (mended.made, mended.granted, len(mended.left)) == ([], False, 13)
    with psycopg.connect(database_url, autocommit=True) as admin:
        for statement in mended.left:
            admin.execute(statement.encode())
    assert all(role.is_ready for role in found(database_url))


def test_a_privilege_that_was_taken_away_is_told_and_given_back(database_url: str, later: tuple[str, ...]) -> None:
    mend(database_url)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"REVOKE SELECT ON mews.coverage FROM {later[0]}".encode())
        for name in ("PUBLIC", *later):
            admin.execute(f"REVOKE EXECUTE ON FUNCTION mews.settled_before() FROM {name}".encode())
        admin.execute(f"REVOKE INSERT (note) ON mews.voucher_code_outbox FROM {later[1]}".encode())
        admin.execute(f"REVOKE UPDATE (priority) ON mews.voucher_code_outbox FROM {later[2]}".encode())
        admin.execute(f"REVOKE DELETE ON mews.voucher_targets FROM {later[2]}".encode())
        admin.execute(f"REVOKE SELECT ON sync.runs FROM {later[2]}".encode())
        admin.execute(f"REVOKE SELECT (paused_because) ON sync.connections FROM {later[2]}".encode())
    assert [list(role.lacks) for role in found(database_url)] == [
        ["SELECT on mews.coverage", "EXECUTE on mews.settled_before()"],
        ["EXECUTE on mews.settled_before()", "INSERT (note) on mews.voucher_code_outbox"],
        [
            "EXECUTE on mews.settled_before()",
            "UPDATE (priority) on mews.voucher_code_outbox",
            "DELETE on mews.voucher_targets",
            "SELECT on sync.connections",
            "SELECT on sync.runs",
        ],
    ]
    assert mend(database_url).granted
    assert all(role.is_ready for role in found(database_url))


def test_a_role_of_somebody_else_by_that_name_is_told(database_url: str, later: tuple[str, ...]) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {later[0]} LOGIN".encode())
    assert [role.is_more_than_a_group for role in found(database_url)] == [True, False, False]


@pytest.mark.long
def test_a_login_that_acts_as_the_owner_makes_the_owners_things(empty_database_url: str) -> None:
    with new_owner(empty_database_url) as owner:
        owner_name = str(psycopg.conninfo.conninfo_to_dict(owner)["user"])
        with new_login(empty_database_url, f"IN ROLE {owner_name}", settings={"role": owner_name}) as url:
            migrate(url)
        with psycopg.connect(empty_database_url) as admin:
            owners = admin.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('mews', 'sync')")
            assert owners.fetchall() == [(owner_name,)]
