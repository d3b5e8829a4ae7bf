"""From a network to an artifact: one exporter for each runtime, and what it can lower."""
