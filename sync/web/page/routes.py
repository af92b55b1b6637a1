"""`/`: the page; `/fragment`: what of it is fresh; `/charts.json`: its charts; `/static/`: its few files.

Nothing here writes, or names a code.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from aiohttp import hdrs, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import DatabaseError
from sync.core.names import composed
from sync.service import app
from sync.service.running import Running
from sync.service.status import words
from sync.service.status.facts import Overview
from sync.service.status.load import load_overview
from sync.service.status.reasons import with_reasons
from sync.service.status.series import SPANS, Series, load_series
from sync.web.answers import finished
from sync.web.database_look import DatabaseLook
from sync.web.page.kept import Kept, Remembered
from sync.web.page.view import Asked, Trouble, look_at, make_view

T = TypeVar("T")
Facts = tuple[Overview, Series | None]
Told = tuple[Facts | None, DatabaseError | None]

HERE = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
HTML = "text/html; charset=utf-8"
GOOD_FOR_S = 2.0
"""However many look, and however often, the database is asked no more often than that for each connection."""
CHARTS_GOOD_FOR_S = 30.0
LONGEST_NAME = 200
LONGEST_PAGE = 6
"""Digits of a page's number."""


def routes(running: Running) -> Iterable[web.RouteDef]:
    """The page and its parts."""
    files = _Files(HERE / "static")
    page = _Page(running, files.stamp)
    return [
        web.get("/", page.whole),
        web.get("/fragment", page.fragment),
        web.get("/charts.json", page.charts),
        web.get("/static/{name}", files.answer),
    ]


class _Files:
    """The page's files, in memory: there is no path to be led astray.

    The page names them with their `stamp`, so that a browser takes none that it has kept of another release.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in TYPES}
        self.stamp = hashlib.sha256(b"".join(self._files.values())).hexdigest()[:12]

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        body = self._files.get(name)
        if body is None:
            raise web.HTTPNotFound
        headers = {hdrs.CACHE_CONTROL: "private, max-age=86400"}
        return web.Response(body=body, content_type=TYPES[Path(name).suffix], charset="utf-8", headers=headers)


class _Page:
    def __init__(self, running: Running, stamp: str) -> None:
        self._running = running
        self._answered_s = time.monotonic()
        event.listen(running.engine.sync_engine, "commit", self._note_answer)
        self._settings = {name: str(value) for name, value in app.told_settings(running.settings).items()}
        self._facts = Kept[str | None, Remembered[Facts]]()
        self._charts = Kept[tuple[str, str], DatabaseLook[Series]]()
        self._bodies = Kept[tuple[str, Asked], tuple[int, asyncio.Task[str]]]()
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {"words": words, "stamp": stamp}
        for name in self._templates.list_templates():  # else whoever comes first waits for it
            self._templates.get_template(name)
        self._head = self._templates.get_template("head.html").render()

    async def whole(self, request: web.Request) -> web.StreamResponse:
        """The page as it is at this moment; it needs no script.

        Its head goes ahead: a browser has the files that it names by the time the database has answered.
        """
        asked = _read(request)
        if asked.name is not None or request.method == hdrs.METH_HEAD:  # of nobody's name there is no page
            return _html(self._head + await self._body("page.html", asked))
        answer = finished(web.StreamResponse(headers={hdrs.CONTENT_TYPE: HTML}))
        await answer.prepare(request)
        await answer.write(self._head.encode())
        await answer.write_eof((await self._body("page.html", asked)).encode())
        return answer

    async def fragment(self, request: web.Request) -> web.Response:
        """What of it changes."""
        return _html(await self._body("live.html", _read(request)))

    async def _body(self, template: str, asked: Asked) -> str:
        name = asked.name
        facts = self._facts.get_or(name, lambda: Remembered(self._look(partial(_load, name=name), GOOD_FOR_S)))
        await facts.refresh()
        if name is not None and facts.found and not facts.trouble and look_at(facts.found[0], name) is None:
            raise web.HTTPNotFound
        # However many look at the same, it is written out once, in a thread: of thousands of hotels that takes long.
        # What it was made of is megabytes then, and not kept with it.
        told, key, away_s = (facts.found, facts.trouble), (template, asked), self._away_s(facts)
        if key in self._bodies and self._bodies[key][0] != facts.number:
            del self._bodies[key]

        def write() -> tuple[int, asyncio.Task[str]]:
            return facts.number, asyncio.create_task(asyncio.to_thread(self._render, template, asked, told, away_s))

        return await asyncio.shield(self._bodies.get_or(key, write)[1])

    def _render(self, template: str, asked: Asked, told: Told, away_s: float) -> str:
        found, trouble = told
        overview, day = found or (Overview(datetime.now(UTC), "", "unknown", [], []), None)
        view = make_view(
            overview,
            asked,
            lease_s=self._running.settings.sync_lease_s,
            settings=self._settings,
            trouble=Trouble(trouble, datetime.now(UTC), away_s) if trouble else None,
            day=day,
        )
        links = {
            "home": "./",
            "fragment": f"fragment?{query}" if (query := asked.query()) else "fragment",
            "charts": f"charts.json?{urlencode({'connection': view.one.name if view.one else ''})}",
        }
        return self._templates.get_template(template).render(view=view, **links)

    def _away_s(self, facts: Remembered[Facts]) -> float:
        """For how long it has not answered: jobs ask it, too, while nobody looks, and may wait for it for longer."""
        return max(facts.trouble_s, time.monotonic() - self._answered_s)

    def _note_answer(self, _connection: Connection) -> None:
        self._answered_s = time.monotonic()

    async def charts(self, request: web.Request) -> web.Response:
        """The lines of a connection over a span."""
        name, span = request.query.get("connection", "")[:LONGEST_NAME], request.query.get("span", "day")
        if not name or "\0" in name or span not in SPANS:
            raise web.HTTPNotFound
        work = partial(load_series, connection=name, span=span)
        look = self._charts.get_or((name, span), lambda: self._look(work, CHARTS_GOOD_FOR_S))
        return web.json_response(asdict(await look()))

    def _look(self, work: Callable[[AsyncConnection], Awaitable[T]], good_for_s: float) -> DatabaseLook[T]:
        return DatabaseLook(self._running.engine, work, good_for_s=good_for_s)


def _html(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={hdrs.CONTENT_TYPE: HTML})


def _read(request: web.Request) -> Asked:
    """What a request asks for; what cannot be meant is left out."""
    number = request.query.get("page", "")
    page = int(number) if number.isascii() and number.isdecimal() and len(number) <= LONGEST_PAGE else 1
    name, find = (composed(request.query.get(key, "")).strip()[:LONGEST_NAME] for key in ("connection", "find"))
    return Asked(name or None, "" if name else find, max(1, page))


async def _load(tx: AsyncConnection, *, name: str | None) -> Facts:
    """Everything, or where a connection is looked at that alone and its last day.

    What is found of each that was looked at is kept: with all the others it would be megabytes each time.
    """
    overview = await load_overview(tx, [] if name is None else [name], of_the_only_one=True)
    if (one := look_at(overview, name)) is not None:
        return replace(overview, connections=[one]), await load_series(tx, one.name, "day")
    return (await with_reasons(tx, overview) if name is None else replace(overview, connections=[])), None
