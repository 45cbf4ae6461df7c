"""What we wrote down: the journal of every decision and outcome, and what is kept of it in memory."""
