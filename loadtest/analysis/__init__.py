"""What the measurements say: results, validity, ranking, comparisons, the decision."""
