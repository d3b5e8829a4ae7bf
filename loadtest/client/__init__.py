"""How a server is spoken to: the protocol, payloads, what it offers, its metrics."""
