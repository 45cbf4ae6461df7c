"""Access: who a caller is, what that caller may do, and from where a call may come."""
