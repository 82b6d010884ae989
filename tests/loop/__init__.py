"""Tests of what runs on one event loop."""
