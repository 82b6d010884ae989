"""WebSockets that do not drop, hang, bloat, storm or lie."""

__version__ = "0.1.0"
