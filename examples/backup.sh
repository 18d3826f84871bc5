#!/usr/bin/env bash
# Copies a data folder while a server works in it: examples/backup.sh FROM TO
# The order matters: how far the tables are said to be, then what names files, then the files, then the log, which thus holds
# whatever the copied tables lack. A file that goes while it is copied (a temporary one, a segment that was released) is no
# harm; `muster --data TO verify` on the copy says whether it is whole.
set -euo pipefail
from="$1"
mkdir -p "$2"
to="$(cd "$2" && pwd)"
cd "$from"
copy() {
  for path in "$@"; do
    if [ -e "$path" ]; then cp -a --parents --no-clobber "$path" "$to" 2>> "$to/missed" || true; fi
  done
}
umask 077
copy lake/next lake/let_go lake/holds.json lake/removed
copy lake/*/_delta_log
copy lake/*/event_day=*
copy lake/removed
copy lake.place doors
copy log control detect ./*.key tokens.json
[ -s "$to/missed" ] || rm -f "$to/missed"
