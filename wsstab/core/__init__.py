"""Machines: no clock, no event loop, no logging, and none imports another."""
