#!/bin/sh
# Makes the token of the cluster and Grafana's password, unless they are there; never shows them.
# Compose hands such files over with their owner and rights, so the containers' users must own them:
# run it as root, or as the user with number 1000.
set -eu
folder=$(dirname "$0")/secrets
umask 077
mkdir -p "$folder"
make() {
    [ -s "$folder/$1" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$folder/$1"
    [ "$(id -u)" != 0 ] || chown "$2" "$folder/$1"
}
make ray_token 1000
make grafana_password 472
