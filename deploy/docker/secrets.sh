#!/bin/sh
# Makes the secrets of compose.yaml that are not there yet, in $QUOTABELL_SECRETS (default: the
# folder secrets beside this file). Only their owner can enter the folder; the files are readable,
# since the users of the containers are others and each sees but those it is given.
set -eu
folder=${QUOTABELL_SECRETS:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() {
    head -c 32 /dev/urandom
}

# Writes standard input to a secret, whole or not at all.
put() {
    cat >"$folder/.$1.new"
    chmod 644 "$folder/.$1.new"
    mv "$folder/.$1.new" "$folder/$1"
}

for name in postgres-password ingest metrics admin grafana-password; do
    [ -s "$folder/$name" ] || random | od -An -vtx1 | tr -d ' \n' | put "$name"
done
[ -s "$folder/push-key" ] || random | base64 | tr '+/' '-_' | tr -d '=\n' | put push-key
[ -s "$folder/database-url" ] ||
    echo "postgresql://quotabell:$(cat "$folder/postgres-password")@postgres:5432/quotabell" |
    put database-url
