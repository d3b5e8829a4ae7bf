"""Data sets: built in, downloaded, and those that a user brings."""
