"""Wires: how bytes reach one peer. One module for each way; `base` says what they have in common."""
