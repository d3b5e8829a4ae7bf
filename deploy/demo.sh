#!/usr/bin/env bash
# make demo: build a study, serve it, load-test every variant. Stops what it started, however it ends.
# usage: deploy/demo.sh STUDY PORT METRICS_PORT OUT FLAG..., with the three programs on PATH. The study, a name or a
# .toml file, has one model, of its own name; the flags are those of the load test: how to load it and what to ship.
set -uo pipefail
set -m # each program in a process group of its own: the terminal's Ctrl-C reaches this script alone
[ $# -ge 4 ] || { echo "usage: deploy/demo.sh STUDY PORT METRICS_PORT OUT FLAG..." >&2 && exit 2; }
study=$1 port=$2 metrics_port=$3 out=$4
model=$(basename "$study" .toml)
shift 4

# Programs run in the background and are waited for: bash handles a signal only between foreground commands.
stop() {
    status=$1
    trap '' INT TERM
    trap - EXIT
    for job in $(jobs -p); do kill -TERM "$job" 2>/dev/null; done
    wait
    if [ -f "$out/results.json" ]; then
        rm -rf "$out.old"
    elif [ -d "$out.old" ]; then
        mv "$out.old" "$out"
    fi
    exit "$status"
}
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop $?' EXIT

pareto-compress build --study "$study" --repository models &
wait $! || exit

rm -rf "$out.old"
pareto-serve --repository models --host 127.0.0.1 --port "$port" --metrics-port "$metrics_port" &
server=$!
[ ! -d "$out" ] || mv "$out" "$out.old" # comes back unless there is a new one at the end
pareto-loadtest run --target "127.0.0.1:$port" --metrics-url "http://127.0.0.1:$metrics_port/metrics" --wait 120 \
    --model "$model" --repository models --check-accuracy --out "$out" "$@" &
load=$!

wait -n -p ended "$server" "$load"
status=$?
if [ "$ended" = "$server" ]; then
    echo "demo: the server ended before the load test did" >&2
    exit 1
fi
exit "$status"
