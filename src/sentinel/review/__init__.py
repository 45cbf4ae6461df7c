"""What was decided and what turned out true: the journal, and what is learned from it."""
