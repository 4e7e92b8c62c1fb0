# packages.bash: installs what a script of this folder needs beside the program; sourced, never run.
#
#   install_missing PROGRAM[=PACKAGE]…     nothing is done where all programs are there already
#
# PROGRAM may be a file's path. Installs with apt-get, as root; elsewhere it says what is missing and ends the script.

script=${0##*/}

fail() {
    printf '%s: %s\n' "$script" "$1" >&2
    exit 1
}

install_missing() {
    local one program missing=() policy=/usr/sbin/policy-rc.d made=
    for one; do
        program=${one%%=*}
        if [[ $program = /* ]]; then [ -e "$program" ]; else command -v "$program" >/dev/null; fi || missing+=("${one#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "please install: ${missing[*]}"
    echo "installing ${missing[*]}" >&2
    # The packages would start a service each, on port 80 perhaps; this keeps them from it while they are unpacked.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        made=$policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } >/dev/null 2>&1 \
        || fail "apt-get could not install ${missing[*]}"
    if [ -n "$made" ]; then
        rm -f $policy
        trap - EXIT
    fi
}
