"""The pages, a file each: what is shown, and what is done about it."""
