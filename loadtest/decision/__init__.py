"""Which variant to ship: accuracy, constraints, the decision for each load, the race, and how many servers it takes."""
