"""What we do: from a probability to approve, challenge, review or block, and what that costs."""
