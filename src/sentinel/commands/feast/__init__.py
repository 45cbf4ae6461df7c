"""A detector as a repository of Feast: what it is made of, and what is run in Feast's own environment."""
