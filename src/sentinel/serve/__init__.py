"""Online: a batch of transactions in, decisions out."""
