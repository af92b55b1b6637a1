"""The pages of the reference are what the code and the database say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from sync.postgres.urls import libpq_url
from tests.support.documents import ROOT

REFERENCE = ROOT / "docs/reference"
UNCOMMENTED = """
SELECT class.relname, attribute.attname FROM pg_class AS class
JOIN pg_attribute AS attribute ON attrelid = class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = 'mews'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
  AND coalesce(col_description(class.oid, attnum), '') = ''
UNION ALL SELECT class.relname, NULL FROM pg_class AS class
WHERE relnamespace = 'mews'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
  AND coalesce(obj_description(class.oid, 'pg_class'), '') = ''
"""


def generator() -> ModuleType:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("generate", REFERENCE / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()


def told(page: str) -> str:
    """What a page says, as it is committed."""
    return Path(REFERENCE / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", GENERATOR.pages_of_code())
def test_a_page_says_what_the_code_says(page: str) -> None:
    assert told(page) == GENERATOR.pages_of_code()[page], "run `make reference`"


def test_the_page_of_tables_says_what_their_comments_say(database_url: str) -> None:
    assert told("tables.md") == GENERATOR.tables(database_url), "run `make reference`"


def test_no_table_view_or_column_is_without_a_comment(database_url: str) -> None:
    with psycopg.connect(libpq_url(database_url)) as session:
        assert session.execute(UNCOMMENTED).fetchall() == []
