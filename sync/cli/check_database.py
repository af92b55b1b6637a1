"""What `voucher-sync check` finds in a database: each line of the README's table of what is required of one."""

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sync.cli.check_line import CheckLine
from sync.cli.roles import describe_role
from sync.outbox.tables import outbox
from sync.postgres.engine import translate
from sync.postgres.facts import Facts, load_facts
from sync.postgres.in_force import inheriting, must_be_given, not_in_force, refusals, unlogged
from sync.postgres.migrations import make_migration_engine
from sync.postgres.requirements import NEWEST, OLDEST
from sync.postgres.schema_version import current_revision, known_revisions
from sync.postgres.urls import describe_address
from sync.schema import metadata, triggers
from sync.service import roles

RENEW_INDEXES = (
    "stop the daemon, run REINDEX DATABASE CONCURRENTLY and ALTER DATABASE ... REFRESH COLLATION VERSION, and start it"
)
LISTENING = 1
"""The session that waits for notifications, beside those of the pool."""

MAX_TOLD = 3
"""Of what is wrong with tables; the rest is most likely so for the same reason."""


def check_database(url: str, pool: int) -> list[CheckLine]:
    """The database itself comes last but for its tables and the roles. Raises `DatabaseError`."""
    try:
        with make_migration_engine(url).connect() as connection:
            facts = load_facts(connection)
            revision = current_revision(connection)
            database = _check_revision(describe_address(url), revision)
            found = [_check_server(facts), _check_privileges(facts), _check_sessions(facts, pool), database]
            if database.is_wrong:
                return found
            if facts.owns:
                found.append(_check_tables(connection))
            return [*found, _check_roles(roles.look(connection))]
    except DBAPIError as error:
        raise translate(error) from None


def _check_server(facts: Facts) -> CheckLine:
    if facts.collation:
        made_by, now = facts.collation
        detail = f"the operating system sorts texts by {now}, and this database's indexes were made by {made_by}"
        return CheckLine("server", f"{detail}: codes may not be found by their value", RENEW_INDEXES)
    newer = f"; newer than the {OLDEST} to {NEWEST} that this version was made for" if facts.release > NEWEST else ""
    return CheckLine("server", f"PostgreSQL {facts.version}, encoding {facts.encoding}{newer}; {facts.link}")


def _check_privileges(facts: Facts) -> CheckLine:
    if not facts.is_firing:
        to_do = f"ALTER ROLE {facts.user} RESET session_replication_role, here and for this database"
        return CheckLine("privileges", "session_replication_role is replica: the outbox's rules are not heeded", to_do)
    if facts.owns is None and not facts.may_create:
        to_do = f"make {facts.user} the database's owner, or GRANT CREATE ON DATABASE ... TO {facts.user}"
        return CheckLine("privileges", f"{facts.user} may not make schemas in this database", to_do)
    if facts.owns is False:
        to_do = "let DATABASE_URL name the user that ran `voucher-sync migrate`, or GRANT that one TO this one"
        return CheckLine("privileges", f"{facts.user} does not own what is in the schemas mews and sync", to_do)
    if facts.filtered:
        tables = ", ".join(facts.filtered)
        to_do = f"ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or ALTER ROLE {facts.user} BYPASSRLS"
        return CheckLine(
            "privileges", f"policies may hide rows from {facts.user}, which nothing is done with: {tables}", to_do
        )
    if facts.readers:
        who = ", ".join(facts.readers)
        to_do = (
            f"REVOKE ALL ON sync.connections, sync.rejected_records FROM {who}, then run `voucher-sync roles`; "
            "if the owner gives it by default, psql's \\ddp shows it"
        )
        return CheckLine("privileges", f"tokens, and records as the API sent them, can be read by {who}", to_do)
    verb = "may make" if facts.owns is None else "owns"
    return CheckLine("privileges", f"{facts.user} (of DATABASE_URL) {verb} the schemas mews and sync")


def _check_sessions(facts: Facts, pool: int) -> CheckLine:
    needed = pool + LISTENING
    open_ = f", of which {facts.ours} are open" if facts.ours else ""
    detail = (
        f"{needed} needed (SYNC_DATABASE_POOL={pool}, and one that listens){open_}; {facts.free} free ({facts.limit})"
    )
    if facts.free + facts.ours >= needed:
        return CheckLine("sessions", detail)
    return CheckLine("sessions", detail, "end other sessions, raise that limit, or set SYNC_DATABASE_POOL=2")


def _check_revision(address: str, at: str | None) -> CheckLine:
    needed = known_revisions()[-1]
    if at == needed:
        return CheckLine("database", f"{address} (DATABASE_URL) is migrated (revision {at})")
    detail = f"{address} is at revision {at or 'none'}, and this version needs {needed}"
    is_older = at is None or at in known_revisions()
    to_do = "run `voucher-sync migrate`" if is_older else "a newer voucher-sync migrated it: run that one"
    return CheckLine("database", detail, to_do)


def _check_tables(connection: Connection) -> CheckLine:
    tables = metadata.sorted_tables
    if gone := not_in_force(connection, tables, triggers()):
        to_do = (
            "put back what was dropped, renamed or built otherwise, ENABLE TRIGGER what is disabled, "
            "REINDEX what is not valid"
        )
        return CheckLine("tables", f"not there, or not in force: {_first(gone)}", to_do)
    if emptied := unlogged(connection, tables):
        detail = f"a crash of the server would empty what is UNLOGGED: {_first(emptied)}"
        return CheckLine("tables", detail, "ALTER TABLE ... SET LOGGED")
    if others := inheriting(connection, tables):
        detail = f"rows of others' tables count as ours, and no key or trigger of ours holds for them: {_first(others)}"
        return CheckLine("tables", detail, "ALTER TABLE ... NO INHERIT ...")
    # Into the outbox others insert, who may well know what to give.
    if unfilled := must_be_given(connection, [table for table in tables if table is not outbox]):
        detail = f"no INSERT of ours fills in what may not be null: {_first(unfilled)}"
        return CheckLine("tables", detail, "ALTER TABLE ... ALTER COLUMN ... SET DEFAULT, or DROP NOT NULL")
    if refused := refusals(connection, tables):
        to_do = "mend or drop the rule, trigger or publication, or grant the privilege"
        return CheckLine("tables", f"refused whatever is written: {_first(refused)}", to_do)
    return CheckLine("tables", f"{len(tables)} are as they were made, and take what is written")


def _first(found: list[str]) -> str:
    more = len(found) - MAX_TOLD
    return "; ".join(found[:MAX_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _check_roles(found: list[roles.Role]) -> CheckLine:
    detail = "; ".join(map(describe_role, found))
    if all(role.is_ready for role in found):
        return CheckLine("roles", f"{detail} (`voucher-sync roles`)")
    return CheckLine("roles", detail, "run `voucher-sync roles`, which says what else is to be done")
