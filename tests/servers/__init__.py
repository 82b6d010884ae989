"""The behaviour of WebSockets, shown on real servers."""
