"""What of the page goes ahead of the rest, and how it ends where the rest does not come."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from sync.postgres.engine import transaction
from sync.web.page import routes
from tests.support.mirror import Mirror

from .helpers import read_answer, serving
from .page_states import STATES

LOCKED = text("LOCK TABLE sync.connections IN ACCESS EXCLUSIVE MODE")
QUESTION = "GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n"


async def test_a_browser_has_what_the_page_needs_before_the_database_has_answered(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        async with transaction(mirror.connection.engine) as tx:
            await tx.execute(LOCKED)
            writer.write(QUESTION.format(port=site.port).encode())
            begun = await reader.readuntil(b"static/page.js?")
        answer = read_answer(begun + await reader.read())
        writer.close()
    assert (answer.status, b"The mirror is up to date</h1>" in answer.body) == (200, True)
    assert answer.body.rstrip().endswith(b"</html>")


async def test_a_browser_takes_no_file_that_it_has_kept_of_another_release(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(routes.HERE, tmp_path / "page")
    named = []
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
    for words in ("", "// another release"):
        with (tmp_path / "page" / "static" / "page.js").open("a") as script:
            script.write(words)
        monkeypatch.setattr(routes, "HERE", tmp_path / "page")
        async with serving(mirror) as site:
            files = re.findall(r'"(static/[^"]+)"', (await site.get("/")).body.decode())
            assert {(await site.get(f"/{path}")).status for path in files} == {200}
        named.append(files)
    assert len(named[0]) == len(named[1]) == 6
    assert not {*named[0]} & {*named[1]}


async def test_where_a_fault_of_ours_ends_the_page_it_is_cut(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        monkeypatch.setattr(routes, "make_view", None)
        received = await site.send(QUESTION.format(port=site.port).encode())
        with pytest.raises(ValueError, match="invalid literal"):  # there is no last chunk
            read_answer(received)
        assert (received.count(b"HTTP/1.1"), b"Traceback" in received) == (1, False)
        assert [line["job"] for line in site.logs if line["event"] == "defect"] == ["http"]
