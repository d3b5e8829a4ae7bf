#!/usr/bin/env bash
# make demo: build the study `digits`, serve it, load-test every variant. Stops what it started, however it ends.
# usage: deploy/demo.sh PORT METRICS_PORT, with the three programs on PATH
set -euo pipefail
port=$1 metrics_port=$2

server=
stop() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

pareto-compress build --study digits --repository models

rm -rf runs/demo
pareto-serve --repository models --host 127.0.0.1 --port "$port" --metrics-port "$metrics_port" &
server=$!
pareto-loadtest run --target "127.0.0.1:$port" --metrics-url "http://127.0.0.1:$metrics_port/metrics" \
    --wait 120 --model digits --repository models --users 1,8 --warmup 0.25 --duration 1.5 --rounds 2 --out runs/demo
