"""`sentinel history`: the log and its outcomes as the history of the next training."""
