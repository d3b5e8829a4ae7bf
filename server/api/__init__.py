"""The protocol: gRPC methods, what guards them, and what they accept and answer."""
