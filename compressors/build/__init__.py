"""A study becomes a repository: trained networks, their cache, isolated work, published variants."""
