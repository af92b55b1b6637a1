"""The application: which module answers which path, and what every request has to pass."""

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from sync.core.errors import DatabaseError
from sync.service.defects import outlived
from sync.service.running import Running
from sync.web import health
from sync.web.access import SCHEMES, Access
from sync.web.answers import finished, plain
from sync.web.metrics.exposition import Metrics
from sync.web.page import routes as page

READ_ONLY = {hdrs.METH_GET, hdrs.METH_HEAD}
OPEN_PATHS = {"/healthz"}
"""Answered without the token: a supervisor has none, and learns no more than whether the process turns."""
STATUS_ONLY_PATHS = {"/readyz"}
"""Without the token these tell their status alone: an orchestrator asks for it, and has nowhere to keep a token."""
GONE = (ConnectionResetError, BrokenPipeError)
"""How a client is told of who went away before the answer: nobody's fault."""
ANSWER_S = 10.0
"""What is not answered within this time is given up."""

Routes = Callable[[Running], Iterable[web.RouteDef]]


MODULES: tuple[Routes, ...] = (health.routes, page.routes)
"""Of each module that answers something, what yields its routes, as `aiohttp.web.get(path, handler)`."""


def make_app(running: Running) -> web.Application:
    """What answers for a running daemon."""
    token = running.settings.sync_http_token
    app = web.Application(middlewares=[_guard(Access(token.get_secret_value() if token else None))])
    for routes in MODULES:
        app.add_routes(routes(running))
    metrics = Metrics(running)
    app.add_routes(metrics.routes())
    app.cleanup_ctx.append(metrics.measuring)
    return app


def _guard(access: Access) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not access.is_host_known(request.headers.getall(hdrs.HOST, [])):
            return finished(plain(421, "name this machine as the host, or set SYNC_HTTP_TOKEN and send it along"))
        is_authorized = access.is_authorized(request.headers.getall(hdrs.AUTHORIZATION, []))
        if not is_authorized and request.path not in OPEN_PATHS | STATUS_ONLY_PATHS:
            refusal = plain(401, "send SYNC_HTTP_TOKEN along: as a Bearer token, or as the password of any user")
            refusal.headers.extend((hdrs.WWW_AUTHENTICATE, scheme) for scheme in SCHEMES)
            return finished(refusal)
        if request.method not in READ_ONLY:
            return finished(plain(405, "this only reads: GET and HEAD", {hdrs.ALLOW: "GET, HEAD"}))
        answer = await _answer(request, handler)
        if request.writer.output_size and not answer.prepared:
            request.protocol.force_close()  # what was begun cannot be told as an error any more, only as cut
        if not is_authorized and request.path in STATUS_ONLY_PATHS:
            answer = plain(answer.status, HTTPStatus(answer.status).phrase)
        return finished(answer)

    return guard


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a handler answers, or what its error is told as: never a traceback, which goes to the log."""
    try:
        with outlived("http", but=(web.HTTPException, DatabaseError, TimeoutError, *GONE)) as ending:
            async with asyncio.timeout(ANSWER_S):
                return await handler(request)
        return plain(500, str(ending.error))
    except web.HTTPException as error:
        said = plain(error.status, HTTPStatus(error.status).phrase)
        if location := error.headers.get(hdrs.LOCATION):
            said.headers[hdrs.LOCATION] = location
        return said
    except DatabaseError as error:
        return plain(503, str(error))
    except TimeoutError:
        return plain(503, f"no answer within {ANSWER_S:g} s")
    except GONE:
        return plain(499, "whoever asked has gone")  # read by nobody
