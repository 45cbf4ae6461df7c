"""What is in a file that nobody has read yet: columns, roles, labels, leaks, and a detector to begin with."""
