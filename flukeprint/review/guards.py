"""What stands before every page: other hosts and origins, large bodies and uploads are refused, and headers are set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of a form: the largest has some ids and a note.
MOST_BYTES = 64 * 1024
KEPT = b"private, max-age=31536000, immutable"
_FORM = "application/x-www-form-urlencoded"
_HEADERS = {
    # Scripts, styles and pictures come from here alone, and none stands in a page itself.
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
}


class Guards:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app, self.hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope["method"], headers)
        if refused is not None:
            await refused(scope, receive, _with_headers(send))
            return
        body = await _read(receive) if scope["method"] == "POST" else b""
        if body is None:
            await _TOO_LARGE(scope, receive, _with_headers(send))
            return
        # What is named by its content stays what it is.
        kept = scope["path"].startswith("/static/") and b"v=" in scope["query_string"]
        await self.app(scope, _once(body, receive), _with_headers(send, kept=kept))

    def _refused(self, method: str, headers: MutableMapping[bytes, str]) -> PlainTextResponse | None:
        host = headers.get(b"host", "")
        if (urlsplit(f"//{host}").hostname or "") not in self.hosts:
            return PlainTextResponse("This server is not asked by that name (--allow-host names others).", 400)
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get(b"origin")
        if method != "POST" or (origin is not None and urlsplit(origin).netloc != host):
            return PlainTextResponse("Only pages of this server may send something to it.", 403)
        if not headers.get(b"content-type", _FORM).startswith(_FORM):
            return PlainTextResponse("Nothing can be uploaded here: photos are added with `flukeprint catalogue`.", 415)
        return _TOO_LARGE if not _is_small(headers.get(b"content-length", "0")) else None


_TOO_LARGE = PlainTextResponse(f"A form has at most {MOST_BYTES} bytes.", 413)


def _is_small(length: str) -> bool:
    return length.isdecimal() and len(length) < 10 and int(length) <= MOST_BYTES


async def _read(receive: Receive) -> bytes | None:
    """Return the body of a form, None if it is too large, whatever length was said."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
        if len(body) > MOST_BYTES:
            return None
    return body


def _once(body: bytes, receive: Receive) -> Receive:
    """Return what hands over a body that was read, then what else comes."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


def _with_headers(send: Send, *, kept: bool = False) -> Callable[[MutableMapping[str, Any]], Awaitable[None]]:
    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = {b"cache-control": KEPT if kept else b"no-store"} | _HEADERS
            message["headers"] = [*message["headers"], *(item for item in more.items() if item[0] not in there)]
        await send(message)

    return send_with_headers
