"""Webhooks: a message is posted to an address outside, signed, and nowhere else than to where its name leads."""
