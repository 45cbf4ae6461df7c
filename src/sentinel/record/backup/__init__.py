"""A backup: what a server needs to go on elsewhere, as of a point of its log.

<backup>/backup.json                  which homes, up to which position, which files; put last
<backup>/<log id>/...                 an archive: log, models, snapshots; a later run adds what is new
<backup>/files/<hash>-written.db      what people wrote and what waits to be sent, not newer than the log there

<secrets>/secrets.json, files/...     keys and passwords, in a place of their own
"""
