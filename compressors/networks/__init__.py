"""Networks to start from: built in, and those that a user brings."""
