"""Pure state machines: they use no clock, no event loop and no logging, and import only their own parts."""
