"""`sentinel send`: transactions of files, of S3 or of the simulator, sent on to a server or to Kafka."""
