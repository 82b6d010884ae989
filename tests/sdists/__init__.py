"""Test suites of other packages, run from their source distributions: bare, and with this package."""
