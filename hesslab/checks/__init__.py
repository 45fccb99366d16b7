"""Checks: the laws of the house as functions that take your implementation."""
