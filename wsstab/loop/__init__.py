"""Services that run on one event loop; each event loop has its own set."""
