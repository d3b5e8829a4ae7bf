"""Locust's master and workers in containers."""
