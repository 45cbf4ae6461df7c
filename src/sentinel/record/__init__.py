"""What we wrote down: the log of every decision, outcome and change, and what is derived from it."""
