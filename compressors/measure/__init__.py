"""What a variant costs: accuracy, latency, size, memory."""
