"""The offline stage: turns one model into variants and measures each with the adapter that will serve it."""
