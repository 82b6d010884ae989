"""Loops: the services of each event loop on which a manager has peers, and the periodic chores there."""

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
        config: the configuration of the manager.
        observe: receives the name and the seconds of a latency.
        lingering: the TCP connections that have closed and are not gone.
        retired: called with services that have ended.

    Attributes:
        services: the services, by event loop.
        draining: whether the manager refuses new connections; set by `drain`.
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
        self._chores: list[tuple[Callable[[], float], Callable[[Services], None]]] = []
        self.services: dict[EventLoop, Services] = {}
        self.draining = False

    def __iter__(self) -> Iterator[Services]:
        # A copy: a test client may bring another loop during the iteration.
        return iter(list(self.services.values()))

    def every(self, seconds: Callable[[], float], chore: Callable[[Services], None]) -> None:
        """Run a chore periodically on each loop that is added from now on.

        Args:
            seconds: gives the period; called when a loop is added.
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
                services.every(seconds(), partial(chore, services))
        return services

    def only(self) -> Services | None:
        """The services of the running loop, if all peers are on it; otherwise ``None``."""
        if len(self.services) != 1:
            return None
        (services,) = self.services.values()
        return services if services.loop is current_loop() else None

    def drain(self, draining: bool) -> None:
        """Tell all loops whether the manager refuses new connections."""
        self.draining = draining
        for services in self:
            services.draining = draining

    def leave(self, services: Services) -> None:
        """A peer of this loop is released. The services end with the last peer, unless ``start()`` keeps them."""
        services.connections -= 1
        self._retire_idle(services)

    def stop(self) -> None:
        """Let the services of all loops end with their last peer, although ``start()`` was called."""
        for services in self:
            services.started = False
            self._retire_idle(services)

    def _retire_idle(self, services: Services) -> None:
        if services.connections or services.started:
            return
        if self.services.pop(services.loop, None) is not None:
            services.retire()
            self._retired(services)
