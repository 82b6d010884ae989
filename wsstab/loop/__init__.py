"""What runs on one event loop: there is one set of these for each."""
