"""The report of a model: one page with everything that somebody asks before it is promoted."""
