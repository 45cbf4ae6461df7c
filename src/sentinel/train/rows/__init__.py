"""Rows: a history as what is learned from and measured on."""
