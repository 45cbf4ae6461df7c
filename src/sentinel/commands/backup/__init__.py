"""`sentinel backup create`, `restore` and `verify`."""
