"""`make bench`: what the server costs on top of the engine and of gRPC, measured side by side with bare servers."""
