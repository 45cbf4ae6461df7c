"""Messages to the world outside: what became of decisions, and what operators have to know, sent at least once."""
