"""Several processes on one port: who starts them, replaces them, and adds up their metrics."""
