"""Tests of the `deploy` folder, as far as they go without a Docker engine."""
