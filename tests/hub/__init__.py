"""Tests of the parts of a manager."""
