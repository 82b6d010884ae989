"""Loops: the services of each event loop on which a manager has peers, and what is done there again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ..config import WebSocketConfig
from ..loop.lingering import Lingering
from ..loop.services import Services
from ..loop.tasks import EventLoop, current_loop

__all__ = ["Loops"]


class Loops:
    """The services of a manager, by event loop.

    Args:
        config: of the manager.
        observe: where latencies go, by name.
        lingering: what has closed and is not gone.
        retired: called with services that have ended.

    Attributes:
        services: by loop.
        draining: whether the manager is about to stop, or refuses new connections; set by `drain`.
    """

    def __init__(
        self,
        config: WebSocketConfig,
        observe: Callable[[str, float], None],
        lingering: Lingering,
        retired: Callable[[Services], None],
    ) -> None:
        self._config = config
        self._observe = observe
        self._lingering = lingering
        self._retired = retired
        self._chores: list[tuple[float, Callable[[Services], None]]] = []
        self.services: dict[EventLoop, Services] = {}
        self.draining = False

    def __iter__(self) -> Iterator[Services]:
        # A copy: a test client may come with another loop meanwhile.
        return iter(list(self.services.values()))

    def every(self, seconds: float, chore: Callable[[Services], None]) -> None:
        """Have a chore done on each loop that comes from now on.

        Args:
            seconds: between two times.
            chore: called with the services of the loop.
        """
        self._chores.append((seconds, chore))

    def here(self) -> Services:
        """The services of the running event loop."""
        loop = current_loop()
        services = self.services.get(loop)
        if services is None:
            services = self.services[loop] = Services(loop, self._config, self._observe, self._lingering)
            services.draining = self.draining
            for seconds, chore in self._chores:
                services.every(seconds, partial(chore, services))
        return services

    def only(self) -> Services | None:
        """The services, when all peers are on the running loop; ``None`` when some are elsewhere."""
        if len(self.services) != 1:
            return None
        (services,) = self.services.values()
        return services if services.loop is current_loop() else None

    def drain(self, draining: bool) -> None:
        """Tell all loops whether the manager is about to stop."""
        self.draining = draining
        for services in self:
            services.draining = draining

    def leave(self, services: Services) -> None:
        """One peer of this loop is over; without any, its services end, unless ``start()`` keeps them."""
        services.connections -= 1
        self._retire_idle(services)

    def stop(self) -> None:
        """``start()`` keeps none of them any more."""
        for services in self:
            services.started = False
            self._retire_idle(services)

    def _retire_idle(self, services: Services) -> None:
        if services.connections or services.started:
            return
        if self.services.pop(services.loop, None) is not None:
            services.retire()
            self._retired(services)
