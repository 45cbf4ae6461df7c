#!/bin/sh
# Give new volumes to a user: own_volumes.sh UID FOLDER... What belongs to that user already stays as it is.
set -eu
user=$1
shift
for folder in "$@"; do
  if [ "$(stat -c %u "$folder")" != "$user" ]; then
    chmod 755 "$folder"
    chown "$user:$user" "$folder"
  fi
done
