"""What stands before Gradio: uploads that are too large are refused unread, and the page may call nobody else."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse


# Gradio's page needs code inside it; pictures and the table are inside it, too.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'"
)


class Guard:
    """
    An ASGI middleware.

    Args:
        app: what it stands before.
        most_bytes: longest body of a request. Gradio's own limit is that of a file, and a request may hold many.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], most_bytes: int):
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > self.most_bytes:
            text = f"Expected a request of at most {self.most_bytes} bytes that states its length."
            return await PlainTextResponse(text, 413, {"Connection": "close"})(scope, receive, send)

        async def send_with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                fields = MutableHeaders(scope=message)
                fields["Content-Security-Policy"] = POLICY
                fields["X-Content-Type-Options"] = "nosniff"
                fields["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, send_with_policy)
