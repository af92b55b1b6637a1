"""A real PostgreSQL with a fresh copy of a migrated database for each test, and a mirror of a simulated hotel in it."""

import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import nullcontext

import pytest
from hypothesis import settings
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.loading import loading
from sync.postgres.engine import make_engine
from sync.postgres.migrations import migrate
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox
from tests.support.pooler import IS_POOLED, in_front_of, way_to
from tests.support.postgres import database_of, new_database, postgres_server
from tests.support.shares import asked_share, later_cases

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
"""No test is about how long an example takes: beside other work one may well take longer than Hypothesis' 0.2 s."""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell's background job ignores Ctrl-C, and so would every process of a test that is sent one."""

LONGEST_FIRST = {name: place for place, name in enumerate(("simulation", "daemon", "demo", "outages", "cli"))}
"""Folders of tests by how long one of theirs may take."""


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A PostgreSQL server."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """Name of a migrated database that tests copy."""
    with new_database(server_url) as url:
        migrate(url)
        yield database_of(url)


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """A migrated database without rows, for one test."""
    with new_database(server_url, template=template) as url, in_front_of(url) if IS_POOLED else nullcontext():
        yield url


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A database with nothing in it."""
    with new_database(server_url) as url:
        yield url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The product's own engine, for one test."""
    engine = make_engine(way_to(database_url))
    yield engine
    await engine.dispose()


@pytest.fixture
async def mirror(database_url: str) -> AsyncIterator[Mirror]:
    """One hotel, served over HTTP, and an empty database to mirror it into.

    Its client has broken no rule of the API in the end.
    """
    mirror = Mirror(database_url)
    async with mirror.opened():
        yield mirror
    assert mirror.simulator.violations == []


@pytest.fixture
def outbox(mirror: Mirror) -> Outbox:
    """Its outbox, with nothing in it."""
    return Outbox(mirror)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded and collected stays to the end: searched for garbage, it took a twelfth of the tests' own work."""
    with loading():
        return (yield)


@pytest.hookimpl(tryfirst=True)  # before what is long is left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first: begun last, one of them would keep one worker busy while the others have nothing to do.

    Behind a pooler only what goes through it: the rest would be as without one.
    """
    if IS_POOLED:
        _keep(config, items, _goes_through_pooler)
    sampled = {item.nodeid: item for item in items if item.get_closest_marker("sampled")}
    for node_id in later_cases(sampled):
        sampled[node_id].add_marker(pytest.mark.long)
    if is_in_share := asked_share():
        _keep(config, items, lambda item: is_in_share(item.nodeid))
    items.sort(key=lambda item: LONGEST_FIRST.get(item.path.parent.name, len(LONGEST_FIRST)))


def _keep(config: pytest.Config, items: list[pytest.Item], is_kept: Callable[[pytest.Item], bool]) -> None:
    others = [item for item in items if not is_kept(item)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if is_kept(item)]


def _goes_through_pooler(item: pytest.Item) -> bool:
    return "database_url" in getattr(item, "fixturenames", ()) and item.get_closest_marker("direct") is None
