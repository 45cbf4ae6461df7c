"""The archive: the log, newest snapshots and models of a home, elsewhere; a machine that is lost comes back from it.

<archive>/<log id>/catalog.json               what is there; what it does not name does not count
<archive>/<log id>/<position>.segment         closed segments
<archive>/<log id>/<position>.<from>-<to>.part   the newest segment, as far as it is durable, by its bytes
<archive>/<log id>/files/<hash>-<name>        snapshots, models and their reports
"""
