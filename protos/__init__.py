"""The contract: everything that two of ParetoServe's programs must agree on, and nothing else."""
