#!/usr/bin/env bash
# make demo: build the study `digits`, serve it, load-test every variant. Stops what it started, however it ends.
# usage: deploy/demo.sh PORT METRICS_PORT OUT, with the three programs on PATH
set -uo pipefail
set -m # each program in a process group of its own: the terminal's Ctrl-C reaches this script alone
port=$1 metrics_port=$2 out=$3

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

pareto-compress build --study digits --repository models &
wait $! || exit

rm -rf "$out.old"
pareto-serve --repository models --host 127.0.0.1 --port "$port" --metrics-port "$metrics_port" &
server=$!
[ ! -d "$out" ] || mv "$out" "$out.old" # comes back unless there is a new one at the end
pareto-loadtest run --target "127.0.0.1:$port" --metrics-url "http://127.0.0.1:$metrics_port/metrics" --wait 120 \
    --model digits --repository models --users 1,8 --warmup 0.25 --duration 1.5 --rounds 2 --reruns 0.05 \
    --p99 20ms --max-drop 1.0 --max-memory 250MB --check-accuracy --out "$out" &
load=$!

wait -n -p ended "$server" "$load"
status=$?
if [ "$ended" = "$server" ]; then
    echo "make demo: the server ended before the load test did" >&2
    exit 1
fi
[ ! -f "$out/results.json" ] || echo "report: $out/report.html" >&2
exit "$status"
