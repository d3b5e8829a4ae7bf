"""How results are shown: the page, plots, tables, Markdown."""
