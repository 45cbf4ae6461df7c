"""What turned out true: what is learned from the log, about models and about transactions."""
