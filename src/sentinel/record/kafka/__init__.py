"""The log in Kafka: a partition of the topic `decisions`, whose messages are records as they are in a segment."""
