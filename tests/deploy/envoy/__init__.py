"""Envoy in front of real servers."""
