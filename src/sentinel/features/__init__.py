"""What we knew then: window features of a transaction, exact, one code path for history and live traffic."""
