"""Which variants are loaded, and how they come and go."""
