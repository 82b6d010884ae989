"""Tests of others, run from their source distributions: bare, and with this package."""
