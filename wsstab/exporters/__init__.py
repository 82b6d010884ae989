"""Exporters: logs for the outside world. Only the outermost modules import from here."""
