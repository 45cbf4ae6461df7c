"""What people write, and what waits to be sent: databases that cannot be made again from the log."""
