"""People: who may log in to the console, as what, and what of it waits for the audit."""
