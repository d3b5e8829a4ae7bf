"""`pareto-compress shrink`: finds a much smaller network, a student, that can take the place of a user's own.

search          the command as a whole: the user's own model, proposals, rungs, the product, the verdict
ladder          which networks are proposed, by the size of the images
proposals       those of them that are within a latency, measured on random weights
students        how a student is trained, and the recipes that it is published by
rungs           short trainings judged on images that are not the test split, each kept in the cache
halving         successive halving: which candidates go on, and how many epochs each may have
verdict         whether the student that came out is what was asked for
"""
