"""What a request may want of a model, and how the engine's outputs become its answer: one module for each task."""
