"""Operators and functions of a stranger's, for types that PostgreSQL has none for. Of one name, what fits exactly
is taken, wherever it stands.
"""

import psycopg

OPEN_TO_ALL = "GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC"
"""As it is up to PostgreSQL 14."""

MAKE = b"""
SET check_function_bodies = off;
CREATE SEQUENCE public.asked;
GRANT ALL ON SEQUENCE public.asked TO PUBLIC;
DO $do$
#variable_conflict use_column
DECLARE
  types constant text[] := '{text, varchar, name, int2, int4, int8, numeric, float8, bool, uuid, timestamptz, interval,
    bytea, jsonb, oid, regclass, text[], uuid[], int8[], int4[], timestamptz[]}';
  pairs constant text[] := '{text, varchar, name, int2, int4, int8, numeric, float8, timestamptz, text[], uuid[]}';
  operators constant text[] := '{=, <>, <, <=, >, >=, +, -, *, /, ||, ->, ->>, ~~, ~~*, ~, !~, @>, <@, &&, ?, &}';
  functions constant text[] := '{abs, array_agg, array_remove, cardinality, char_length, concat, concat_ws, count,
    current_setting, encode, format, has_database_privilege, hashtextextended, left, length, lower, make_interval, max,
    min, pg_notify, pg_relation_size, pg_try_advisory_lock, pg_try_advisory_xact_lock, regexp_replace, round,
    set_config, setval, starts_with, string_agg, sum, to_regclass, unnest, upper}';
  body constant text := $$LANGUAGE plpgsql AS
    'BEGIN PERFORM nextval(''public.asked''); RAISE ''a stranger was asked''; END'$$;
  made record;
BEGIN
  FOR made IN SELECT a, b FROM unnest(types) AS a, unnest(types) AS b LOOP
    EXECUTE format('CREATE FUNCTION public.theirs(%s, %s) RETURNS bool %s', made.a, made.b, body);
  END LOOP;
  FOR made IN
    SELECT name, a, b FROM unnest(operators) AS name, unnest(types) AS a, unnest(types) AS b
    WHERE NOT EXISTS (SELECT FROM pg_operator WHERE oprname = name AND oprleft = a::regtype AND oprright = b::regtype)
  LOOP
    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.theirs)',
                   made.name, made.a, made.b);
  END LOOP;
  FOR made IN
    SELECT name, given FROM unnest(functions) AS name, (
      SELECT ARRAY[a] AS given FROM unnest(types) AS a
      UNION ALL SELECT ARRAY[a, b] FROM unnest(pairs) AS a, unnest(pairs) AS b
      UNION ALL SELECT ARRAY[a, b, 'bool'] FROM unnest(pairs[1:2]) AS a, unnest(pairs[1:2]) AS b
    ) AS given
    WHERE NOT EXISTS (
      SELECT FROM pg_proc WHERE proname = name
      AND proargtypes::oid[]::text = (SELECT array_agg(type::regtype::oid)::text FROM unnest(given) AS type))
  LOOP
    EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS bool %s', made.name, array_to_string(made.given, ', '), body);
  END LOOP;
END $do$
"""


def let_in_strangers(owner_url: str, stranger_url: str) -> None:
    """Have a user who may do nothing else make all of it."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(OPEN_TO_ALL)
    with psycopg.connect(stranger_url, autocommit=True) as stranger:
        stranger.execute(MAKE)


def is_any_asked(url: str) -> bool:
    """Whether any of it was called since; a rollback does not undo that."""
    with psycopg.connect(url) as session:
        row = session.execute("SELECT is_called FROM public.asked").fetchone()
    return row is not None and bool(row[0])
