"""Tests of the signal handling."""
