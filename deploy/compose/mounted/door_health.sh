#!/bin/bash
# Whether the proxy answers where DOOR says that it listens. Its image has no client of HTTP.
exec 3<>"/dev/tcp/127.0.0.1/${DOOR##*:}" && printf 'GET /door HTTP/1.0\r\n\r\n' >&3 && grep -q ' 200 ' <&3
