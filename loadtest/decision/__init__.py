"""Which variant to ship: accuracy and constraints with their intervals, the decision for each load, and the race."""
