"""Tests of `loadtest`. Importing `loadtest.locustfile` patches the process, so what needs it runs in one of its own."""
