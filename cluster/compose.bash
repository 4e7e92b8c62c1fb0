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

# Fills `container_of` with the id of the running container of each service named.
declare -A container_of
find_containers() {
    local ids id service
    container_of=()
    mapfile -t ids < <(compose ps -q "$@" 2>/dev/null)
    [ ${#ids[@]} -gt 0 ] || return 0
    while read -r service id; do
        container_of[$service]=$id
    done < <(docker inspect -f '{{if .State.Running}}{{index .Config.Labels "com.docker.compose.service"}} {{.Id}}{{end}}' \
        "${ids[@]}" 2>/dev/null | grep .)
}

# Fills `running` with the nodes that run, in order; fails when none does.
find_nodes() {
    local node
    find_compose
    find_containers n1 n2 n3 "$@"
    running=()
    for node in n1 n2 n3; do [ -z "${container_of[$node]:-}" ] || running+=("$node"); done
    [ ${#running[@]} -gt 0 ] || fail "no node is running: start the deployment with '${compose_command[*]} up -d --build'"
}

# Prints a node's status as one line without spaces; prints nothing when it doesn't answer.
status_of() { docker exec "${container_of[$1]}" triad status --json 2>/dev/null | tr -d ' \n' || true; }

# Milliseconds since 1970, by this machine's clock.
now_ms() { echo $(($(date +%s%N) / 1000000)); }
