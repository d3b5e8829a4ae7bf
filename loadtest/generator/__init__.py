"""The load generator under suspicion: what another one says, and what the server could do if ours took nothing."""
