"""The small program written for Django Channels: a consumer for each question, and Django's views beside them."""

from __future__ import annotations

import asyncio

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of the tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    LOGGING_CONFIG=None,
)
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.exceptions import DenyConnection, StopConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from wsstab.types import ASGIApp, Receive, Scope, Send  # noqa: E402

from .program import told_by  # noqa: E402
from .subject import Subject  # noqa: E402

__all__ = ["application", "urlpatterns", "websockets"]


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The base of all consumers, which notes their end."""

    name = ""

    async def connect(self) -> None:
        """Accept."""
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Note the disconnect, on which a chat's presence depends."""
        self.scope["subject"].notes.append([self.name, "WebSocketDisconnect", code])


class Echo(Consumer):
    """Answers."""

    name = "echo"

    async def connect(self) -> None:
        """Accept with a header."""
        await self.accept(headers=[(b"x-program", b"echo")])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Answer what came, whether or not its peer is still there."""
        await self.send(text_data=text_data, bytes_data=bytes_data)


class Returns(Consumer):
    """Ends by itself."""

    async def connect(self) -> None:
        """Send a message and end."""
        await self.accept()
        await self.send("last words")
        raise StopConsumer


class Raises(Consumer):
    """Fails."""

    async def connect(self) -> None:
        """Fail after accept."""
        await self.accept()
        raise LookupError(told_by(self.scope))


class RaisesEarly(Consumer):
    """Fails."""

    async def connect(self) -> None:
        """Fail before accept."""
        raise LookupError(told_by(self.scope))


class RaisesLate(Consumer):
    """Fails when it cleans up."""

    async def disconnect(self, code: int) -> None:
        """Fail when the peer has left."""
        open("/nonexistent/" + told_by(self.scope))  # noqa: ASYNC230, SIM115


class Closes(Consumer):
    """Closes."""

    async def connect(self) -> None:
        """Close after accept."""
        await self.accept()
        await self.close(4001, "as told")


class Refuses(Consumer):
    """Refuses."""

    async def connect(self) -> None:
        """Refuse the handshake."""
        raise DenyConnection


class Pushes(Consumer):
    """Only sends."""

    name = "pushes"

    async def connect(self) -> None:
        """Send for a third of a second, and learn of the end after that."""
        await self.accept()
        for number in range(30):
            await self.send(str(number))
            await asyncio.sleep(0.01)


class Room(Consumer):
    """Stays."""

    name = "room"

    async def connect(self) -> None:
        """Take part in broadcasts."""
        await self.accept()
        self.scope["subject"].sockets.append(self)

    async def disconnect(self, code: int) -> None:
        """Take part no more."""
        self.scope["subject"].sockets.remove(self)
        await super().disconnect(code)


CONSUMERS: dict[str, type[Consumer]] = {
    "echo": Echo,
    "returns": Returns,
    "raises": Raises,
    "raises-early": RaisesEarly,
    "raises-late": RaisesLate,
    "closes": Closes,
    "refuses": Refuses,
    "pushes": Pushes,
    "room": Room,
}


async def hello(request: HttpRequest) -> JsonResponse:
    """Answer with the path and the address of the client."""
    return JsonResponse({"hello": request.path, "client": request.META["REMOTE_ADDR"]})


async def shout(request: HttpRequest) -> JsonResponse:
    """Send to everybody in the room."""
    text, subject = request.GET["text"], request.scope["subject"]
    return JsonResponse(await subject.shout(text, lambda consumer: consumer.send(text)), safe=False)


urlpatterns = [path("hello", hello), path("shout", shout)]


def websockets(subject: Subject) -> ASGIApp:
    """The consumers by path."""
    router: ASGIApp = URLRouter([path(name, consumer.as_asgi()) for name, consumer in CONSUMERS.items()])
    return router


def application(subject: Subject, inner: ASGIApp) -> ASGIApp:
    """Django, and its sessions and users around the WebSockets, as Channels' tutorial has it."""
    router = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": AuthMiddlewareStack(inner)})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["subject"] = subject
        await router(scope, receive, send)

    return app
