"""Open Inference Protocol v2: inference.proto and what protoc makes of it (`make proto`)."""
