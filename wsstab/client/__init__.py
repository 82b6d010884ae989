"""Client of wsstab.v1: its machine, which knows neither sockets nor loops."""
