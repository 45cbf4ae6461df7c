"""The longer commands of the command line: what they do, apart from how they are called."""
