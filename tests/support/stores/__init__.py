"""Real stores on this machine, started for tests: S3, Google Cloud Storage, a registry; and a stand-in for the Hub."""
