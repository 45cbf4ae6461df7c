"""Attacks on a server of our own: `make attack` tries them all and fails on any that is not held."""
