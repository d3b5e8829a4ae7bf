"""How a loaded variant is executed: slots, batches, deadlines, threads."""
