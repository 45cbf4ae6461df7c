"""Objects: bytes under names, in a bucket of S3 or a folder. Models, and archives of the log, are kept as such."""
