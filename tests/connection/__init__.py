"""Tests of one connection and its parts."""
