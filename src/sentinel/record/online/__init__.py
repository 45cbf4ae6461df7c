"""The online view: the newest features and the profile of each key in Redis. It is made of the log, and may be lost."""
