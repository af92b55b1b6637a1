"""States that the page is looked at in, as they come about or as they stand in the database."""

from collections.abc import Awaitable, Callable

from sync.core.api_errors import ServerError, Unauthorized
from tests.support.mirror import Mirror
from tests.web.helpers import Site

Plant = Callable[[Mirror, Site], Awaitable[None]]

VALUE = "NEVER-SHOWN-{}"
RUNS = """
INSERT INTO sync.runs (connection, kind, began_at, finished_at, counts, error) VALUES
('default', 'discovery', now() - interval '3 days', now() - interval '3 days' + interval '2 s', '{"written": 9}', NULL),
('default', 'push', now() - interval '2 hours', now() - interval '2 hours' + interval '4 s', '{"done": 1200}', NULL),
('default', 'audit', now() - interval '6 hours', now() - interval '5 hours', '{"vouchers": 12, "codes": 48210,
 "drift": 0, "repaired": 0}', NULL),
('default', 'pull', now() - interval '9 minutes', now() - interval '9 minutes' + interval '1 s',
 '{"pages": 2, "codes": 1310, "written": 14, "windows_done": 3}', NULL);
INSERT INTO sync.audits (connection, began_at, finished_at, owner, alive_until)
SELECT connection, began_at, finished_at, gen_random_uuid(), finished_at FROM sync.runs WHERE kind = 'audit';
INSERT INTO sync.outages (connection, began_at, ended_at, error) VALUES ('default', now() - interval '2 days',
 now() - interval '2 days' + interval '11 minutes', 'enterprises/getAll: the API failed (503)');
INSERT INTO sync.request_failures (connection, operation, problem, count, last_at, request_id) VALUES
('default', 'voucherCodes/getAll', 'the API failed (503)', 41, now() - interval '2 days', '7f3c-0a91'),
('default', 'voucherCodes/getAll', 'too many requests (429)', 2, now() - interval '9 days', '1b02-77fe')
"""
CHANGES = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, status, held_because, connection, last_error,
  request_id, created_at, next_attempt_at, finished_at, attempts)
SELECT 'add', id, format('NEVER-SHOWN-%s-%s', '{status}', n), '{status}', {because}, 'default', {error},
  md5(n::text), now() - interval '3 hours', now() + interval '{due_in}',
  CASE WHEN '{status}' = 'failed' THEN now() - interval '1 hour' END, 1
FROM generate_series(1, {count}) AS n, (SELECT id FROM mews.vouchers LIMIT 1) AS voucher
"""
LATELY = """
INSERT INTO sync.samples (connection, at, behind_since, waiting, attention, drift, codes, requests, failed)
SELECT 'default', now() - n * interval '5 minutes',
  CASE WHEN n BETWEEN 100 AND 110 THEN now() - interval '560 minutes' END,
  CASE WHEN n BETWEEN 20 AND 60 THEN 60 - n ELSE 0 END, CASE WHEN n < 15 THEN 4 ELSE 0 END,
  CASE WHEN n > 200 THEN 3 ELSE 0 END, CASE n % 7 WHEN 0 THEN n * 2 ELSE n % 5 END, 20 + n % 9 * 11,
  CASE WHEN n BETWEEN 100 AND 110 THEN 12 ELSE 0 END
FROM generate_series(0, 280) AS n
"""
AN_HOUR_AGO = (
    "UPDATE sync.connections SET state_since = now() - interval '1 hour', caught_up_as_of = now() - interval '1 hour'",
    "UPDATE sync.caught_up SET as_of[1] = now() - interval '1 hour'",
    "UPDATE sync.outages SET began_at = now() - interval '1 hour' WHERE ended_at IS NULL",
)
DRIFT = """
INSERT INTO sync.voucher_audits (voucher_id, connection, audit_id, began_at, finished_at, differing, only_here,
  repaired) SELECT id, 'default', 1, now() - interval '6 hours', now() - interval '5 hours', 3, 1, 4 FROM mews.vouchers;
UPDATE sync.runs SET counts = counts || '{"drift": 12, "repaired": 12}' WHERE kind = 'audit'
"""
REPLICAS = """
INSERT INTO sync.daemons (process, host, pid, version, revision, settings, started_at, heartbeat_at, beat, takes)
SELECT md5(host)::uuid, host, 7, '0.1.0', '0033', '{}', now() - interval '3 days',
  now() - age_s * interval '1 s', 9, '{environment,stored}'
FROM (VALUES ('voucher-sync-0', 1), ('voucher-sync-1', 2), ('voucher-sync-2', 3600)) AS replica(host, age_s)
"""
MANY = """
INSERT INTO sync.connections (name, state, error, error_kind, heartbeat_at, caught_up_as_of, caught_up_through,
  state_since, origin, platform_address, access_token, added_at, owner, paused_at, paused_because)
SELECT format('hotel-%s', lpad(n::text, 4, '0')), CASE WHEN n % {every} = 0 THEN 'failing' ELSE 'ok' END,
  CASE WHEN n % {every} = 0 THEN 'enterprises/getAll: not authorised (401): Invalid AccessToken' END,
  CASE WHEN n % {every} = 0 THEN 'Unauthorized' END, now(),
  now() - n % 40 * interval '1 s' - CASE WHEN n % {every} = 0 THEN interval '7 hours' ELSE '0' END,
  now() - n % 40 * interval '1 s', now() - n * interval '7 hours', 'command', 'https://api.mews.com', 'x', now(),
  CASE WHEN n % {every} <> 3 THEN md5('voucher-sync-' || n % 2)::uuid END,
  CASE WHEN n % {every} = 3 THEN now() - interval '9 days' END,
  CASE WHEN n % {every} = 3 AND n < 500 THEN 'closed until May, as the owner wrote on Monday' END
FROM generate_series(1, {count}) AS n;
INSERT INTO mews.vouchers (id, service_id, name, is_active, connection)
SELECT gen_random_uuid(), gen_random_uuid(), 'Voucher', true, name FROM sync.connections, generate_series(1, 20);
INSERT INTO sync.watermarks (voucher_id, connection, mirrored_from, complete_through, page_size, first_saved_at)
SELECT id, connection, now() - interval '1 year', now(), 1000, now() - interval '1 day' FROM mews.vouchers;
ANALYZE
"""


async def working(mirror: Mirror, site: Site) -> None:
    """All is well, and has been used for a while."""
    vouchers = [mirror.add_voucher(name) for name in ("Summer", "Corporate 2027", "Spa weekend")]
    for voucher in vouchers:
        mirror.add_codes(voucher, [VALUE.format(f"{voucher.name}-{number}") for number in range(400)])
    await site.jobs.discover()
    await site.jobs.pull()
    await site.beat()
    await _run(mirror, RUNS)
    await _run(mirror, LATELY)


async def queued(mirror: Mirror, status: str, count: int, error: str, **more: str) -> None:
    """Changes that stand so; past the triggers, which let nobody say that."""
    values = {"because": "NULL", "due_in": "0 s"} | more
    statement = CHANGES.format(status=status, count=count, error=error, **values)
    async with mirror.connection.engine.begin() as tx:
        await tx.exec_driver_sql("SET LOCAL session_replication_role = replica")
        await tx.exec_driver_sql(statement.replace("%s", "%%s"))


async def first_backfill(mirror: Mirror, site: Site) -> None:
    """Years of codes, of which a part is read."""
    voucher = mirror.add_voucher(days_old=3000)
    mirror.add_codes(voucher, [VALUE.format(number) for number in range(50)], days_old=2000)
    await site.jobs.discover()
    await site.jobs.pull_turn(turn_s=-1)
    await site.beat()
    await mirror.execute("UPDATE sync.plans SET windows_planned = windows_planned + 60")
    await mirror.execute(
        "INSERT INTO sync.runs (connection, kind, began_at, counts) VALUES ('default', 'pull', now() - "
        'interval \'20 s\', \'{"windows_done"\\: 12, "codes"\\: 11800, "written"\\: 11800}\')'
    )


async def degraded(mirror: Mirror, site: Site) -> None:
    """Pushes fail, and pulls go on."""
    await working(mirror, site)
    await queued(mirror, "pending", 37, "'the API failed (503)'", due_in="42 s")
    await site.jobs.health.note("push", ServerError("voucherCodes/add", status=503, request_id="5d1e-44c0"))
    await _run(mirror, "UPDATE sync.connections SET state_since = now() - interval '10 minutes'")
    await site.beat()


async def revoked(mirror: Mirror, site: Site) -> None:
    """The token was taken back an hour ago."""
    await working(mirror, site)
    await token_taken_back(mirror, site)


async def token_taken_back(mirror: Mirror, site: Site) -> None:
    """What a daemon notes then."""
    await site.jobs.health.note("pull", Unauthorized("enterprises/getAll", "Invalid AccessToken", status=401))
    for statement in AN_HOUR_AGO:
        await mirror.execute(statement)


async def nothing(mirror: Mirror, site: Site) -> None:
    """A database in which nothing was ever mirrored."""


async def drift(mirror: Mirror, site: Site) -> None:
    """The last audit has found codes that differ."""
    await working(mirror, site)
    await _run(mirror, DRIFT)


async def held(mirror: Mirror, site: Site) -> None:
    """Too many deletes at once, and some changes that were refused."""
    await working(mirror, site)
    why = "held: 420 deletes within 600 s are more than 20% of the 1,200 active codes of this connection; release them "
    why += "with `voucher-sync outbox release`, or cancel them"
    await queued(mirror, "held", 420, f"'{why}'".replace("%", "%%"), because="'too_many_deletes'")
    await queued(mirror, "failed", 7, "'VoucherCode ''NEVER-SHOWN'' already exists.'")
    await queued(mirror, "pending", 12, "NULL")


async def many(mirror: Mirror, site: Site) -> None:
    """A thousand connections, of which some fail and some are paused."""
    await _run(mirror, REPLICAS)
    await _run(mirror, MANY.format(every=90, count=1000))
    await site.beat()


async def fleet(mirror: Mirror, site: Site) -> None:
    """Twenty, of which some fail, some are paused, one waits for somebody; two daemons share them, one has died."""
    await _run(mirror, REPLICAS)
    await _run(mirror, MANY.format(every=8, count=20))
    await _run(mirror, "UPDATE mews.vouchers SET connection = 'default' WHERE connection = 'hotel-0001'")
    await queued(mirror, "held", 420, "'held: 420 deletes within 600 s'", because="'too_many_deletes'")
    await site.beat()


async def paused(mirror: Mirror, site: Site) -> None:
    """The only connection is paused."""
    await working(mirror, site)
    await _run(mirror, "UPDATE sync.connections SET paused_at = now() - interval '9 days', paused_because = 'closed'")


async def _run(mirror: Mirror, statements: str) -> None:
    """Runs statements as they are."""
    async with mirror.connection.engine.begin() as tx:
        for statement in statements.split(";\n"):
            await tx.exec_driver_sql(statement.replace("%", "%%"))


STATES: dict[str, Plant] = {
    "working": working,
    "first-backfill": first_backfill,
    "degraded": degraded,
    "revoked": revoked,
    "nothing": nothing,
    "drift": drift,
    "held": held,
    "many": many,
    "fleet": fleet,
    "paused": paused,
}
