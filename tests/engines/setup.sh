#!/usr/bin/env bash
# A Slurm cluster of one node on loopback, for tests: everything it writes is in one folder, nothing in /etc is touched.
#     bash tests/engines/setup.sh start FOLDER     installs what is missing (Debian, as root), starts it, waits until it is idle
#     bash tests/engines/setup.sh stop FOLDER
# Then, for every command that is to see it: export SLURM_CONF=FOLDER/slurm.conf
set -euo pipefail
action="${1:?start or stop}"
mkdir -p "${2:?a folder}"
folder="$(cd "$2" && pwd)"
node="$(hostname -s)"

install_packages() {
    command -v slurmctld slurmd munged sbatch >/dev/null && return
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends slurm-wlm munge
}

write_configuration() {
    mkdir -p "$folder"/{state,spool}
    cat >"$folder/slurm.conf" <<CONF
ClusterName=bench
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
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
KillWait=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start_daemons() {
    export SLURM_CONF="$folder/slurm.conf"
    head -c 1024 /dev/urandom >"$folder/munge.key"
    chmod 600 "$folder/munge.key"
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    slurmctld -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF"
    for _ in $(seq 120); do
        [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    tail -n 20 "$folder"/slurm*.log >&2
    return 1
}

stop_daemons() {
    for name in slurmd slurmctld munged; do
        [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
}

case "$action" in
start)
    install_packages
    write_configuration
    start_daemons
    echo "export SLURM_CONF=$folder/slurm.conf"
    ;;
stop) stop_daemons ;;
*)
    echo "start or stop, not $action" >&2
    exit 2
    ;;
esac
