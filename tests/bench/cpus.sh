#!/bin/sh
# Usage: cpus.sh CPUS COMMAND...
# Runs a command and its children on the first CPUS CPUs of the machine. A part of a CPU, such as 0.5, is its share of
# the time in each 20 ms, as Lambda's, and needs root.
set -eu
cpus=$1
shift
whole=$(awk -v cpus="$cpus" 'BEGIN { up = int(cpus); if (up < cpus) up++; if (up < 1) exit 1; print up }') || {
    echo "cpus.sh: CPUS is '$cpus'; it must be a number above 0, such as 0.5, 1 or 2" >&2
    exit 2
}
if awk -v cpus="$cpus" -v whole="$whole" 'BEGIN { exit cpus != whole }'; then
    exec taskset -c "0-$((whole - 1))" "$@"
fi

micros=$(awk -v cpus="$cpus" 'BEGIN { printf "%d", cpus * 20000 }')
name=model-sidecar-bench-$$
cpu=$(awk '$3 == "cgroup" && $4 ~ /(^|,)cpu(,|$)/ { print $2; exit }' /proc/self/mounts)
if [ -n "$cpu" ]; then
    group=$cpu/$name
    mkdir "$group"
    echo 20000 >"$group/cpu.cfs_period_us"
    echo "$micros" >"$group/cpu.cfs_quota_us"
else
    group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)/$name
    mkdir "$group"
    echo "$micros 20000" >"$group/cpu.max"
fi
trap 'rmdir "$group"' EXIT
sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" taskset -c "0-$((whole - 1))" "$@"
