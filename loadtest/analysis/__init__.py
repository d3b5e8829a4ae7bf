"""What the measurements say: results, validity, comparisons of variants and of runs, history, warnings."""
