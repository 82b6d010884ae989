"""Sessions end to end: machines of both sides over a network that hurts."""
