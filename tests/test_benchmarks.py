"""The guard on speed sees a loss of more than a quarter, says of what, and counts what is sent to the database."""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest

from sync.demo.simulator import UNLIMITED, Simulator
from sync.postgres.urls import libpq_url
from tests.support.documents import ROOT

BENCHMARKS = ROOT / "benchmarks"
BEFORE = {"client_cpu": 6.0, "statements": 4.5}


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions in the test's database, whatever name is asked for."""

    url: str

    def session(self, _name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(libpq_url(self.url), autocommit=True)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Imports one, as those beside it do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {one for one in sys.modules if one not in before and (BENCHMARKS / f"{one}.py").exists()}:
        del sys.modules[name]


@pytest.mark.parametrize(("client_cpu", "is_lost"), [(3.0, False), (6.0, False), (7.99, False), (8.01, True)])
def test_a_loss_of_more_than_a_quarter_is_named_with_both_figures(
    benchmark: Any, client_cpu: float, is_lost: bool
) -> None:
    lost = benchmark("guard").losses(BEFORE, {"client_cpu": client_cpu, "statements": 4.5})

    assert len(lost) == is_lost
    assert all("client processor time" in one and "8.010" in one and "6.000" in one for one in lost)


def test_what_the_guard_compares_with_is_all_that_it_measures(benchmark: Any) -> None:
    guard: ModuleType = benchmark("guard")
    assert benchmark("json").loads(Path(guard.BASELINE).read_text(encoding="utf-8")).keys() == guard.MEANINGS.keys()


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_statements_and_round_trips_are_counted_however_the_bytes_come(benchmark: Any, size: int) -> None:
    counts = Counter[str]()
    messages = benchmark("guarded_world").Messages(counts)
    startup = (8).to_bytes(4, "big") + b"\0\3\0\0"
    sent = startup + b"".join(
        kind + (4 + len(body)).to_bytes(4, "big") + body
        for kind, body in [(b"Q", b"BEGIN\0"), (b"P", b"QQ"), (b"B", b"E"), (b"E", b"S"), (b"E", b""), (b"S", b"")]
    )

    for at in range(0, len(sent), size):
        messages.feed(sent[at : at + size])

    assert counts == {"statements": 3, "trips": 2}


async def test_a_mirror_that_is_wrong_is_told_so_with_how_wrong_it_is(
    benchmark: Any, database_url: str, tmp_path: Path
) -> None:
    contenders, measures, worlds = (benchmark(name) for name in ("contenders", "measures", "worlds"))
    world = worlds.make_world(10, 2)
    rows = tmp_path / "rows"
    benchmark("works").write_rows(world, rows)
    with psycopg.connect(libpq_url(database_url), autocommit=True) as session:

        def verdict() -> str:
            around = measures.Surroundings(Sessions(database_url), "", Simulator(world), "", UNLIMITED, tmp_path)
            return str(measures.verdict(around, contenders.OURS, world))

        assert verdict() == "10 missing"
        columns = f"{contenders.OURS_COLUMNS}, connection"
        with session.cursor().copy(f"COPY mews.voucher_codes ({columns}) FROM STDIN".encode()) as copy:
            copy.write(rows.read_bytes())
        assert verdict() == "equal"
        session.execute(
            "UPDATE mews.voucher_codes SET value = 'X' WHERE id IN (SELECT id FROM mews.voucher_codes LIMIT 2)"
        )
        assert verdict() == "2 differing"
