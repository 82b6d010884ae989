"""Tests of the wires to hypercorn, and of the shield around it."""
