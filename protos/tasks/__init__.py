"""What a model is for: one module for each task says how its outputs become answers, and how those are judged."""
