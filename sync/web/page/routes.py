"""`/`: the page; `/fragment`: what of it is fresh; `/static/`: its few files. Nothing here writes, or names a code."""

from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import hdrs, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import DatabaseError
from sync.service import app
from sync.service.running import Running
from sync.service.status import words
from sync.service.status.facts import Overview
from sync.service.status.load import load_overview
from sync.web.database_look import DatabaseLook
from sync.web.page.view import View, make_view

HERE = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
GOOD_FOR_S = 2.0
"""However many look, and however often, the database is asked no more often than that for each connection."""
LOOKED_AT = 20
"""Connections that are looked at one by one, of which what was found is kept."""
LONGEST_NAME = 200
LONGEST_PAGE = 6
"""Digits of a page's number."""


def routes(running: Running) -> Iterable[web.RouteDef]:
    """The page and its parts."""
    page = _Page(running)
    files = _Files(HERE / "static")
    return [
        web.get("/", page.whole),
        web.get("/fragment", page.fragment),
        web.get("/static/{name}", files.answer),
    ]


class _Files:
    """The page's files, in memory: there is no path to be led astray."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in TYPES}

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        body = self._files.get(name)
        if body is None:
            raise web.HTTPNotFound
        headers = {hdrs.CACHE_CONTROL: "private, max-age=86400"}
        return web.Response(body=body, content_type=TYPES[Path(name).suffix], charset="utf-8", headers=headers)


class _Page:
    def __init__(self, running: Running) -> None:
        self._running = running
        self._settings = {name: str(value) for name, value in app.told_settings(running.settings).items()}
        self._looks = OrderedDict[str | None, DatabaseLook[Overview]]()
        self._last: dict[str | None, Overview] = {}
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals["words"] = words

    async def whole(self, request: web.Request) -> web.Response:
        """The page as it is at this moment; it needs no script."""
        return await self._answer("page.html", request)

    async def fragment(self, request: web.Request) -> web.Response:
        """What of it changes."""
        return await self._answer("live.html", request)

    async def _answer(self, template: str, request: web.Request) -> web.Response:
        name = request.query.get("connection", "")[:LONGEST_NAME] or None
        number = request.query.get("page", "")
        page = int(number) if number.isascii() and number.isdecimal() and len(number) <= LONGEST_PAGE else 1
        view = await self._view(name, page)
        if name is not None and view.one is None and not view.is_stale:
            raise web.HTTPNotFound
        asked = {key: value for key, value in (("connection", name), ("page", page if page > 1 else None)) if value}
        query = f"?{urlencode(asked)}" if asked else ""
        links = {"home": "./", "fragment": f"fragment{query}", "charts": f"charts.json{query}"}
        body = self._templates.get_template(template).render(view=view, **links)
        return web.Response(text=body, content_type="text/html")

    async def _view(self, name: str | None, page: int) -> View:
        trouble = None
        try:
            overview = self._last[name] = await self._look(name)()
        except DatabaseError as error:
            trouble = error
            overview = self._last.get(name) or Overview(datetime.now(UTC), "unknown", [], [])
        settings, lease_s = self._settings, self._running.settings.sync_lease_s
        return make_view(overview, name, page=page, lease_s=lease_s, settings=settings, trouble=trouble)

    def _look(self, name: str | None) -> DatabaseLook[Overview]:
        if name not in self._looks:
            work = partial(_load, name=name)
            self._looks[name] = DatabaseLook(self._running.engine, work, good_for_s=GOOD_FOR_S)
        self._looks.move_to_end(name)
        while len(self._looks) > LOOKED_AT:
            forgotten, _ = self._looks.popitem(last=False)
            self._last.pop(forgotten, None)
        return self._looks[name]


async def _load(tx: AsyncConnection, *, name: str | None) -> Overview:
    return await load_overview(tx, [] if name is None else [name], of_the_only_one=True)
