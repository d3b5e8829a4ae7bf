"""Tests of `loadtest.tasks`."""
