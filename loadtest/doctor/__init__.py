"""What a server of the protocol can do, and what would fail."""
