#!/bin/sh
# Valkey with a password that stands in its environment alone.
exec valkey-server - <<END
requirepass $REDISCLI_AUTH
dir /data
appendonly yes
maxmemory-policy volatile-ttl
END
