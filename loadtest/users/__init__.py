"""The load: Locust users, when they send, what they record."""
