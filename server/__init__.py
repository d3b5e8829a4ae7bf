"""The gRPC service: hosts every variant of a repository behind the Open Inference Protocol."""
