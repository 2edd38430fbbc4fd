#!/usr/bin/env bash
# A real Docker Swarm of several nodes on one machine, for the tests of `lb --provider swarm`.
#
#   nodes.sh up                 builds the swarm from zero; prints one line for each node
#   nodes.sh image TAG PROGRAM  makes an image of one static program in every node
#   nodes.sh docker N ARGS...   the docker client against node N
#   nodes.sh enter N CONTAINER COMMAND...
#                               runs a command of this machine in the network namespace of a container: so `lb` is on the overlay
#                               without an image, and every socket file stays reachable
#   nodes.sh pid N CONTAINER    the pid of its process as this machine sees it (for kill -9, kill -STOP)
#   nodes.sh crash N            power cut of node N: its engine, shims and containers are gone at once
#   nodes.sh boot N             starts node N again, with the disk that it had
#   nodes.sh cut N | heal N     takes node N's network cable out, and puts it in again (everything on it goes on)
#   nodes.sh down               removes everything: processes, namespaces, mounts, cgroups, files
#
# Environment, with what holds without it:
#   SW_DIR                  the folder for all that the fixture keeps; node N's socket is $SW_DIR/N/docker.sock
#   SW_NODES=3              how many nodes
#   SW_MANAGERS=1           the first so many of them are managers (3 for fail-over: Raft needs a majority)
#   SW_PREFIX=sw            of namespaces, host names and cgroups; another prefix and SW_LAN is another swarm beside it
#   SW_LAN=10.88.0          node N is $SW_LAN.N in it
#   SW_POOL=10.89.0.0/16    overlay networks get their subnets here
#   SW_BRIDGE=172.30        the first half of the addresses of the nodes' own networks
#   SW_HEARTBEAT=5000       dispatcher heartbeat in ms: a node that is silent for 3 of them is down
#   SW_ELECTION=10          Raft election tick, seconds: how long managers miss a leader before they elect another
#   SW_TASKS=5              ended tasks kept for each slot
#
# Needs: root; dockerd, containerd, runc, docker, curl, ip, nsenter, unshare; a kernel with veth, bridge, overlay and vxlan. Not needed:
# IPVS (so: endpoint mode dnsrr), a registry, a running dockerd, which is left alone anyway.
#
# How it works: node N is a network namespace (a veth into a bridge, which is in a namespace of its own, because with
# bridge-nf-call-iptables the host's own FORWARD policy would drop what passes a bridge of the host's) and in it a process
# that is PID 1 of its own PID, mount and UTS namespaces. So `crash` is one SIGKILL, and no mount outlives a node. It is
# nsenter and not `ip netns exec`, which would put a fresh /sys over the cgroups.
set -euo pipefail

dir=${SW_DIR:?the folder for all that the fixture keeps} nodes=${SW_NODES:-3} managers=${SW_MANAGERS:-1} prefix=${SW_PREFIX:-sw}
lan=${SW_LAN:-10.88.0} pool=${SW_POOL:-10.89.0.0/16} heartbeat=${SW_HEARTBEAT:-5000} election=${SW_ELECTION:-10} kept=${SW_TASKS:-5}
bridge=${SW_BRIDGE:-172.30}
[[ $dir == /?*/?* ]] || { echo "SW_DIR=$dir is too short to be removed with everything in it" >&2; exit 2; }

at() { local n=$1; shift; DOCKER_HOST=unix://$dir/$n/docker.sock DOCKER_CONTEXT='' docker "$@"; }
die() { echo "$*" >&2; exit 1; }

# wait_for SECONDS COMMAND...
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

answers() { at "$1" version; }
ready() { [[ $(at 1 node ls --format '{{.Status}}' | grep -c Ready) == "$nodes" ]]; }

lan_up() {
  ip netns add "${prefix}-lan"
  ip -n "${prefix}-lan" link add lan type bridge
  ip -n "${prefix}-lan" addr add "$lan.254/24" dev lan
  ip -n "${prefix}-lan" link set lo up
  ip -n "${prefix}-lan" link set lan up
}

# plug N: the node's namespace and its cable
plug() {
  local n=$1 ns=$prefix$1
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip -n "${prefix}-lan" link add "port$n" type veth peer name eth0 netns "$ns"
  ip -n "${prefix}-lan" link set "port$n" master lan up
  ip -n "$ns" addr add "$lan.$n/24" dev eth0
  ip -n "$ns" link set eth0 up
  # A default route, to the switch: it refuses at once what is for an address that is not here. Nothing leaves this machine.
  ip -n "$ns" route add default via "$lan.254"
}

# boot N: the node itself. Its PID 1 is dockerd; `--kill-child` ties it to `unshare`, whose pid is in $dir/N/pid.
boot() {
  local n=$1 home=$dir/$1 ns=$prefix$1
  mkdir -p "$home/data"
  rm -f "$home/docker.sock" "$home/docker.pid"
  # PREFER_OFFLINE_IMAGE: else every start of a task first asks a registry that is not there. (The engine's own escape hatch.)
  DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1 setsid nsenter --net="/run/netns/$ns" \
    unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc \
    bash -c '
      set -e
      mount -t tmpfs -o mode=755 run /run          # shim sockets, xtables.lock, network namespaces: all of this node alone
      [ -L /var/run ] || mount --bind /run /var/run
      hostname "$1"
      echo "127.0.0.1 localhost $1" >"$2/hosts" && mount --bind "$2/hosts" /etc/hosts
      # A resolver that refuses at once instead of timing out: what is not on an overlay has no name here.
      echo "nameserver 127.0.0.1" >"$2/resolv.conf" && mount --bind "$2/resolv.conf" /etc/resolv.conf
      echo "{}" >"$2/daemon.json"
      exec dockerd --config-file "$2/daemon.json" --data-root "$2/data" --exec-root /run/docker --pidfile /run/docker.pid \
        --host "unix://$2/docker.sock" --host unix:///run/docker.sock --storage-driver "$3" --cgroup-parent "/$1" --exec-opt native.cgroupdriver=cgroupfs \
        --bip "$6.$((4 * $4)).1/24" --default-address-pool "base=$6.$((4 * $4 + 1)).0/24,size=26" --userland-proxy=false \
        --dns "$5" --log-driver json-file --live-restore=false --shutdown-timeout 1
    ' node "$ns" "$home" "${SW_STORAGE:-overlay2}" "$n" "$lan.254" "$bridge" >>"$home/log" 2>&1 </dev/null &
  echo $! >"$home/pid"
  disown
}

# pid of a running node, or nothing
pid_of() {
  local pid
  pid=$(cat "$dir/$1/pid" 2>/dev/null) || return 1
  [[ -e /proc/$pid/cmdline ]] && tr '\0\n' '  ' <"/proc/$pid/cmdline" | grep -q "unshare.*$dir/$1" && echo "$pid"
}

# cgroup N: of all containers of a node
cgroup() { [[ -d /sys/fs/cgroup/pids ]] && echo "/sys/fs/cgroup/pids/$prefix$1" || echo "/sys/fs/cgroup/$prefix$1"; }

# container_pid N CONTAINER: in this machine's PID namespace, which the engine's inspect does not know
container_pid() {
  local id
  id=$(at "$1" inspect --format '{{.Id}}' "$2")
  head -1 "$(cgroup "$1")/$id/cgroup.procs"
}

crash() {
  local pid
  pid=$(pid_of "$1") || return 0
  kill -9 "$pid"                                   # and with it, by --kill-child, PID 1, and with that all the others
  wait_for 10 gone "$pid" || die "node $1 (pid $pid) does not end"
  wait_for 10 empty "$(cgroup "$1")" || die "containers of node $1 do not end"
}
gone() { [[ ! -e /proc/$1 ]]; }
empty() { [[ -z $(find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null) ]]; }

up() {
  [[ ! -e $dir/1 ]] || die "$dir is in use: nodes.sh down"
  mkdir -p "$dir"
  trap 'echo "failed; the logs are $dir/*/log" >&2' ERR
  lan_up
  local n token
  for ((n = 1; n <= nodes; n++)); do plug "$n"; boot "$n"; done
  for ((n = 1; n <= nodes; n++)); do wait_for 30 answers "$n" || die "node $n does not answer: $dir/$n/log"; done
  # Over the API, because the client has no flag for the election tick.
  curl -sS --fail-with-body --unix-socket "$dir/1/docker.sock" -H 'Content-Type: application/json' -d '{
      "ListenAddr": "'"$lan.1:2377"'", "AdvertiseAddr": "'"$lan.1"'", "DefaultAddrPool": ["'"$pool"'"], "SubnetSize": 24,
      "Spec": {"Dispatcher": {"HeartbeatPeriod": '"$((heartbeat * 1000000))"'}, "Raft": {"HeartbeatTick": 1, "ElectionTick": '"$election"'},
        "Orchestration": {"TaskHistoryRetentionLimit": '"$kept"'}}}' http://engine/swarm/init >"$dir/id"
  for ((n = 2; n <= nodes; n++)); do
    token=$(at 1 swarm join-token -q "$( ((n <= managers)) && echo manager || echo worker)")
    at "$n" swarm join --token "$token" --advertise-addr "$lan.$n" --listen-addr "$lan.$n:2377" "$lan.1:2377" >/dev/null
  done
  wait_for 30 ready || die "not all nodes get ready"
  for ((n = 1; n <= nodes; n++)); do
    echo "$prefix$n $lan.$n unix://$dir/$n/docker.sock $( ((n <= managers)) && echo manager || echo worker)"
  done
}

down() {
  local n path pids=()
  for path in "$dir"/[0-9]*; do
    [[ -d $path ]] || continue
    crash "${path##*/}"
  done
  for n in $(ip netns list | awk '{print $1}' | grep -E "^$prefix([0-9]+|-lan)$" || true); do ip netns del "$n"; done
  for path in /sys/fs/cgroup/*/"$prefix"[0-9]* /sys/fs/cgroup/"$prefix"[0-9]*; do
    [[ -d $path ]] || continue
    find "$path" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf "$dir"
}

case ${1:-} in
  up) up ;;
  down) down ;;
  crash) crash "$2" ;;
  boot) boot "$2"; wait_for 30 answers "$2" ;;
  cut) ip -n "${prefix}-lan" link set "port$2" down ;;
  heal) ip -n "${prefix}-lan" link set "port$2" up ;;
  docker) shift; at "$@" ;;
  pid) container_pid "$2" "$3" ;;
  enter) pid=$(container_pid "$2" "$3"); shift 3; exec nsenter --net="/proc/$pid/ns/net" "$@" ;;
  image)
    for path in "$dir"/[0-9]*; do
      tar -C "$(dirname "$3")" -c "$(basename "$3")" |
        at "${path##*/}" import --change "ENTRYPOINT [\"/$(basename "$3")\"]" - "$2" >/dev/null &
    done
    wait ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
