"""Reference tables: what a team knows beside its transactions, looked up as each is taken in."""
