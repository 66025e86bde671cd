#!/usr/bin/env bash
# A Slurm cluster of one node and a PostgreSQL server on loopback, for tests: what they write is in one folder.
#     bash tests/engines/setup.sh start FOLDER [slurm|postgres]     installs what is missing (Debian, as root), starts it
#                                                                   and waits until it answers; both by default
#     bash tests/engines/setup.sh stop FOLDER [slurm|postgres]
# `start` prints what the shell of a command that is to see them has to export. Started again on the same folder,
# PostgreSQL goes on with its data. It does not run as root: its user, postgres, has to be able to reach FOLDER.
set -euo pipefail
action="${1:?start or stop}"
mkdir -p "${2:?a folder}"
folder="$(cd "$2" && pwd)"
engines="${3:-slurm postgres}"
node="$(hostname -s)"
port=16832 # of PostgreSQL; not 5432, where Debian's own server may be

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends "$@"
} >&2

# ------------------------------------------------------------------------------------------------ Slurm

write_configuration() {
    mkdir -p "$folder"/{state,spool}
    cat >"$folder/slurm.conf" <<CONF
ClusterName=bench
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
# cred_expire: a requeued job waits for so long (s) and half a minute before it starts again; 120 by default
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
# two workers at a time, whatever this machine has
SlurmdParameters=config_overrides
KillWait=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start_slurm() {
    command -v slurmctld slurmd munged sbatch >/dev/null || install_packages slurm-wlm munge
    write_configuration
    export SLURM_CONF="$folder/slurm.conf"
    head -c 1024 /dev/urandom >"$folder/munge.key"
    chmod 600 "$folder/munge.key"
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    slurmctld -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF"
    for _ in $(seq 120); do
        if [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ]; then
            echo "export SLURM_CONF=$folder/slurm.conf"
            return
        fi
        sleep 0.5
    done
    tail -n 20 "$folder"/slurm*.log >&2
    return 1
}

stop_slurm() {
    for name in slurmd slurmctld munged; do
        [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
}

# ------------------------------------------------------------------------------------------------ PostgreSQL

# Debian keeps the server's programs out of the PATH.
binaries() { find /usr/lib/postgresql -path '*/bin/initdb' -printf '%h\n' 2>/dev/null | sort -V | tail -n 1; }

as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        su postgres -s /bin/sh -c "$1"
    else
        sh -c "$1"
    fi
}

start_postgres() {
    [ -n "$(binaries)" ] || install_packages postgresql
    data="$folder/postgres/data"
    mkdir -p "$folder/postgres"
    if [ "$(id -u)" = 0 ]; then
        chmod o+x "$folder"
        chown postgres "$folder/postgres"
    fi
    as_postgres "test -w '$folder/postgres'" || { echo "the user postgres cannot reach $folder" >&2; return 1; }
    if [ ! -f "$data/PG_VERSION" ]; then
        as_postgres "umask 077; cd '$folder/postgres'; od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >password
            '$(binaries)/initdb' -D data -U bench --auth=scram-sha-256 --pwfile=password --encoding=UTF8 --locale=C >log"
    fi
    as_postgres "cd '$folder/postgres'; '$(binaries)/pg_ctl' start -w -s -D data -l log -o \
        '-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='" || { tail "$folder/postgres/log" >&2; return 1; }
    echo "export BENCH_TEST_POSTGRES=postgresql://bench:$(cat "$folder/postgres/password")@127.0.0.1:$port/postgres"
}

stop_postgres() {
    [ -f "$folder/postgres/data/postmaster.pid" ] || return 0
    as_postgres "cd '$folder/postgres'; '$(binaries)/pg_ctl' stop -s -m fast -D data"
}

case "$action" in
start | stop) for engine in $engines; do "${action}_$engine"; done ;;
*)
    echo "start or stop, not $action" >&2
    exit 2
    ;;
esac
