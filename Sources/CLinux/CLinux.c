#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clinux_accept_nonblocking(int listener, struct sockaddr *address, socklen_t *length) {
    return accept4(listener, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int clinux_socket_nonblocking(int domain, int type, int protocol) {
    return socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

int clinux_pipe_nonblocking(int descriptors[2]) { return pipe2(descriptors, O_NONBLOCK | O_CLOEXEC); }

int clinux_set_nonblocking(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    return flags < 0 ? -1 : fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
}

uint64_t clinux_boot_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t clinux_wall_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int clinux_errno(void) { return errno; }

int clinux_raise_priority(void) {
    struct sched_param parameters = {.sched_priority = 1};
    pid_t thread = (pid_t)syscall(SYS_gettid);
    // The raised class must not reach children (the fence raises itself; `ip` and the demo's APIs must not have it).
    if (sched_setscheduler(thread, SCHED_RR | SCHED_RESET_ON_FORK, &parameters) == 0) return 2;
    if (setpriority(PRIO_PROCESS, (id_t)thread, -10) == 0) return 1;
    return 0;
}

int clinux_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal); }

void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name); }

ssize_t clinux_splice(int from, int to, size_t length, int more) {
    return splice(from, NULL, to, NULL, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0));
}

int clinux_enter_network_namespace(int descriptor) { return setns(descriptor, CLONE_NEWNET); }

int clinux_enter_process_namespace(int descriptor) { return setns(descriptor, CLONE_NEWPID); }

int clinux_unshare_network(void) { return unshare(CLONE_NEWNET); }

int clinux_unshare_user(void) { return unshare(CLONE_NEWUSER); }
