# Sourced by the findings: a temporary folder that goes with the script, and npm packages in it.
set -euo pipefail
work=$(mktemp -d "${TMPDIR:-/tmp}/finding-XXXXXX")
chmod 755 "$work"
trap 'clean_up' EXIT
clean_up() {
  if declare -F stop_servers >/dev/null; then stop_servers; fi
  rm -rf "$work"
}

# install NAME@VERSION…
install() {
  printf '{ "private": true }\n' > "$work/package.json"
  npm install --prefix "$work" --silent --no-audit --no-fund "$@" >/dev/null
  printf 'packages: %s\n' "$*"
}

# Runs the JavaScript on standard input among the installed packages and the modules that stand here.
javascript() {
  cp "$(dirname "${BASH_SOURCE[0]}")"/*.mjs "$work"
  cat > "$work/finding.mjs"
  (cd "$work" && node finding.mjs "$@")
}
