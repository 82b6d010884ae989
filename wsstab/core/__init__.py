"""Machines: no clock, no event loop, no logging, and none imports another but the few that it is made of."""
