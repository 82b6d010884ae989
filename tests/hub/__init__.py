"""Tests of what a manager is made of."""
