"""The servers that tests and trials need (PostgreSQL, Redis, Kafka, S3, MLflow), without containers.

`make services NAMES="redis s3"` starts them; everything they need and keep lies below `.services/` of this checkout.
"""
