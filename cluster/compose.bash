# compose.bash: what the scripts in this folder share; sourced by them, never run.
# `compose ARGUMENTS` runs docker compose (v2) or docker-compose (1.29 or later), whichever is installed, for the
# deployment in ../compose.yaml. COMPOSE_PROJECT_NAME and DOCKER_HOST work as always.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
script=${0##*/}

fail() {
    printf '%s: %s\n' "$script" "$1" >&2
    exit "${2:-1}"
}

find_compose() {
    if docker compose version >/dev/null 2>&1; then
        compose_command=(docker compose)
    elif command -v docker-compose >/dev/null; then
        local version major minor
        version=$(docker-compose version --short 2>/dev/null) || fail "docker-compose is there but does not run"
        IFS=. read -r major minor _ <<<"${version#v}"
        if [ "$major" -eq 1 ] && [ "${minor:-0}" -lt 29 ]; then
            fail "docker-compose $version is too old: install 1.29 or later, or the compose plugin of docker"
        fi
        compose_command=(docker-compose)
    else
        fail "neither 'docker compose' nor 'docker-compose' is installed"
    fi
    local reason
    reason=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null) \
        || fail "no Docker engine answers: ${reason:-docker version failed}"
}

compose() { "${compose_command[@]}" --project-directory "$root" -f "$root/compose.yaml" "$@"; }

nodes=(n1 n2 n3)

# Prints the ids of the nodes whose container runs.
running_nodes() {
    local node
    for node in "${nodes[@]}"; do
        [ -z "$(container_of "$node")" ] || echo "$node"
    done
}

# Prints the id of a service's running container, or nothing.
container_of() {
    local id
    for id in $(compose ps -q "$1" 2>/dev/null); do
        [ "$(docker inspect -f '{{.State.Running}}' "$id" 2>/dev/null)" = true ] && echo "$id"
    done
    return 0
}

# Runs the binary inside the container of the node named first. (docker exec rather than compose's: it starts faster.)
on_node() {
    local node=$1
    shift
    docker exec "$(container_of "$node")" triad "$@"
}

# Prints a node's status as one line without spaces; fails when it doesn't answer.
status_of() { on_node "$1" status --json 2>/dev/null | tr -d ' \n'; }

# Milliseconds, for measuring how long something takes.
now_ms() { echo $(($(date +%s%N) / 1000000)); }
