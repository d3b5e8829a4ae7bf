"""What a repository looks like: tables, plots, notes."""
