"""The shadow: a challenger that scores what was decided, in a process that no decision waits for.

It follows the log, which is its queue, and writes to a file of its own. So a crash, a hang or a slow model is
never felt by a caller: the process has one thread and the lowest priority, and may be killed at any moment, which is
how it is always stopped.
"""
