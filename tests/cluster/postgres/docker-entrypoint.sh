#!/bin/sh
# Starts PostgreSQL with the contract of the official image, as far as templates rely on it: POSTGRES_PASSWORD,
# POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, PGDATA, each *_FILE form of the first
# three; the database is made on the first start, the server runs as the user postgres and listens on every address.
set -eu

setting() { # setting NAME DEFAULT: the variable, or the content of the file that NAME_FILE names, or the default
    eval "value=\${$1:-} file=\${${1}_FILE:-}"
    if [ -n "$value" ] && [ -n "$file" ]; then
        echo "$1 and ${1}_FILE are both set: set one of them" >&2
        exit 1
    fi
    if [ -n "$file" ]; then value=$(cat "$file"); fi
    printf '%s' "${value:-$2}"
}

case ${1:-postgres} in
-*) set -- postgres "$@" ;;
postgres) [ $# -gt 0 ] || set -- postgres ;;
*) exec "$@" ;;
esac

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    find "$PGDATA" \! -user postgres -exec chown postgres: {} +
    chown postgres: /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=$(setting POSTGRES_USER postgres)
    database=$(setting POSTGRES_DB "$user")
    password=$(setting POSTGRES_PASSWORD '')
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo "set POSTGRES_PASSWORD (or POSTGRES_HOST_AUTH_METHOD=trust): the database has no password yet" >&2
        exit 1
    fi
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    passwords=$(mktemp)
    trap 'rm -f "$passwords"' EXIT
    printf '%s\n' "${password:-unused}" >"$passwords"
    # shellcheck disable=SC2086 # the variable holds several words by its contract
    initdb --username="$user" --pwfile="$passwords" --encoding=UTF8 --locale=C.UTF-8 ${POSTGRES_INITDB_ARGS:-}
    rm -f "$passwords"
    trap - EXIT
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
    printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
    if [ "$database" != postgres ]; then
        printf 'CREATE DATABASE "%s";\n' "$database" | postgres --single -jE -c listen_addresses= postgres >/dev/null
    fi
fi
exec "$@"
