"""What happened: transactions, outcomes, the files they come in, and a simulator of them."""
