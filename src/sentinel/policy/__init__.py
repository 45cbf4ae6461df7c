"""What we do: from a probability to approve, review or block."""
