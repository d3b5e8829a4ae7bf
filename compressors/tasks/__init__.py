"""Tasks: what a network is trained for and judged by."""
