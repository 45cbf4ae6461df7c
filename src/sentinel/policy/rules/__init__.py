"""The language of rules: from a condition as text, over a typed tree, to a program that runs over a batch."""
