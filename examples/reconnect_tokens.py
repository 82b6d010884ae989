"""Coming back as the same client: a signed token that works once.

Start it with ``WSSTAB_SECRET_KEY=change-me python -m examples.reconnect_tokens``; then
``python -m websockets ws://127.0.0.1:8000/basket``. Send ``{"token": null}``, then a few words; break
off with Ctrl+D, connect again and send ``{"token": "..."}`` with the token you were given last.

The token comes in the ``Authorization`` header where the client can set one, and in the first message
where it cannot (browsers). It never comes in the query string: addresses end up in access logs, in
proxies and in histories. One that is refused closes the socket with 1008, and the reason says why: used
before, expired, signed with another key, or no token at all. The client then begins anew, with ``null``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from uuid import uuid4

from fastapi import FastAPI, WebSocket

from wsstab import (
    CloseCode,
    InvalidTokenError,
    TokenExpiredError,
    WebSocketConfig,
    WebSocketConnectionManager,
    WebSocketStabilizer,
)

manager = WebSocketConnectionManager(WebSocketConfig.from_env())
app = FastAPI()
app.add_middleware(WebSocketStabilizer, manager=manager)

baskets: defaultdict[str, list[str]] = defaultdict(list)
"""What each client collected. It outlives the socket; in a real application it is a database."""


@app.websocket("/basket")
async def basket(websocket: WebSocket) -> None:
    """Collect words, across connections."""
    await websocket.accept()
    try:
        client_id = await whose(websocket)
    except (InvalidTokenError, TokenExpiredError) as error:
        # Uncaught, the error closes with 1008 too, but the reason is only "not authorized".
        await websocket.close(CloseCode.POLICY_VIOLATION, str(error))
        return
    await manager.connect(client_id, websocket)
    await give_token(websocket, client_id)
    async for word in websocket.iter_text():
        baskets[client_id].append(word)
        await give_token(websocket, client_id)


async def whose(websocket: WebSocket) -> str:
    """The client id that the token was made for, or a new one if there is no token.

    Raises:
        InvalidTokenError, TokenExpiredError: the token is refused.
    """
    token = bearer(websocket) or await first_message(websocket)
    return uuid4().hex if token is None else await manager.validate_reconnect_token(token)


def bearer(websocket: WebSocket) -> str | None:
    """The token of the ``Authorization`` header."""
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    return token or None if scheme.lower() == "bearer" else None


async def first_message(websocket: WebSocket) -> str | None:
    """The token of the first message, ``{"token": ...}``; ``None`` for a newcomer."""
    try:
        token = json.loads(await websocket.receive_text()).get("token")
    except (ValueError, AttributeError):
        raise InvalidTokenError from None
    return None if token is None else str(token)


async def give_token(websocket: WebSocket, client_id: str) -> None:
    """Send the basket, and a fresh token for the next time."""
    token = manager.generate_reconnect_token(client_id)
    await websocket.send_json({"basket": baskets[client_id], "token": token})


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
