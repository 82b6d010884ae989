"""The wires to hypercorn, and what shields it."""
