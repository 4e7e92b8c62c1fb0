#define _GNU_SOURCE
#include "CLinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
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

int clinux_raise_priority(void) { return clinux_raise_process((pid_t)syscall(SYS_gettid)); }

int clinux_raise_process(pid_t process) {
    struct sched_param parameters = {.sched_priority = 1};
    // The raised class must not reach children (the fence raises itself and its `ip`; the demo's APIs must not have it).
    if (sched_setscheduler(process, SCHED_RR | SCHED_RESET_ON_FORK, &parameters) == 0) return 2;
    if (setpriority(PRIO_PROCESS, (id_t)process, -10) == 0) return 1;
    return 0;
}

int clinux_die_with_parent(int signal) { return prctl(PR_SET_PDEATHSIG, signal); }

pid_t clinux_spawn(const char *path, char *const arguments[], char *const environment[], int input, int output,
                   int error, int keep, int death_signal, int new_session) {
    pid_t parent = getpid();
    // The child borrows this process's memory until it has become the program: it may touch no variable.
    pid_t child = vfork();
    if (child != 0) return child;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (new_session) setsid();
    // Each source is moved out of the way first, so that no dup2 overwrites one still needed.
    unsigned count = keep < 0 ? 3 : 4;
    int sources[4] = {fcntl(input, F_DUPFD, 4), fcntl(output, F_DUPFD, 4), fcntl(error, F_DUPFD, 4), -1};
    if (keep >= 0) sources[3] = fcntl(keep, F_DUPFD, 4);
    for (unsigned target = 0; target < count; target++)
        if (sources[target] < 0 || dup2(sources[target], (int)target) < 0) _exit(127);
    if (syscall(SYS_close_range, count, ~0u, 0u) != 0)
        for (int descriptor = (int)count; descriptor < 1024; descriptor++) close(descriptor);
    if (death_signal != 0) {
        prctl(PR_SET_PDEATHSIG, death_signal);
        // It may have ended before the line above took effect.
        if (getppid() != parent) _exit(127);
    }
    execve(path, arguments, environment);
    _exit(127);
}

int clinux_close_from(void *actions, int first) { return posix_spawn_file_actions_addclosefrom_np(actions, first); }

int clinux_connect_unix_datagram(const char *path) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof address.sun_path) {
        errno = EINVAL;
        return -1;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') address.sun_path[0] = 0;
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    if (connect(descriptor, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0)
        return descriptor;
    int code = errno;
    close(descriptor);
    errno = code;
    return -1;
}

int clinux_pass_on_capability(int capability) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) != 0) return -1;
    data[CAP_TO_INDEX(capability)].inheritable |= CAP_TO_MASK(capability);
    if (syscall(SYS_capset, &header, data) != 0) return -1;
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
}

int clinux_kill_timer(void **timer) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGKILL;
    return timer_create(CLOCK_BOOTTIME, &event, (timer_t *)timer);
}

int clinux_kill_timer_set(void *timer, uint64_t boot_nanoseconds) {
    struct itimerspec setting;
    memset(&setting, 0, sizeof setting);
    setting.it_value.tv_sec = (time_t)(boot_nanoseconds / 1000000000u);
    setting.it_value.tv_nsec = (long)(boot_nanoseconds % 1000000000u);
    return timer_settime((timer_t)timer, TIMER_ABSTIME, &setting, NULL);
}

int clinux_find_interface(const char *name, struct clinux_interface *found) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    memset(found, 0, sizeof *found);
    if (strlen(name) >= sizeof request.ifr_name) {
        errno = ENODEV;
        return -1;
    }
    strcpy(request.ifr_name, name);
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    int outcome = ioctl(descriptor, SIOCGIFINDEX, &request);
    found->index = request.ifr_ifindex;
    if (outcome == 0) outcome = ioctl(descriptor, SIOCGIFFLAGS, &request);
    found->up = (request.ifr_flags & IFF_UP) != 0;
    found->loopback = (request.ifr_flags & IFF_LOOPBACK) != 0;
    if (outcome == 0) outcome = ioctl(descriptor, SIOCGIFHWADDR, &request);
    found->ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
    memcpy(found->hardware, request.ifr_hwaddr.sa_data, sizeof found->hardware);
    int code = errno;
    close(descriptor);
    errno = code;
    return outcome;
}

int clinux_netlink_socket(int protocol, uint32_t groups) {
    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (descriptor < 0) return -1;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0) return descriptor;
    int code = errno;
    close(descriptor);
    errno = code;
    return -1;
}

int clinux_attach_filter(int socket, const struct sock_filter *program, uint16_t length) {
    struct sock_fprog whole = {.len = length, .filter = (struct sock_filter *)program};
    return setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &whole, sizeof whole);
}

uint32_t clinux_socket_drops(int socket) {
    uint32_t figures[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof figures;
    if (getsockopt(socket, SOL_SOCKET, SO_MEMINFO, figures, &size) < 0) return 0;
    return figures[SK_MEMINFO_DROPS];
}

void clinux_enlarge_receive_buffer(int socket, int bytes) {
    if (setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

int clinux_packet_socket(void) { return socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

int clinux_packet_listener(int interface_index, uint16_t ethernet_type) {
    // Made without a protocol, so that nothing of other interfaces is received before it is bound to this one.
    int descriptor = clinux_packet_socket();
    if (descriptor < 0) return -1;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ethernet_type), .sll_ifindex = interface_index};
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0) return descriptor;
    int code = errno;
    close(descriptor);
    errno = code;
    return -1;
}

ssize_t clinux_receive_frame(int socket, int *interface_index, void *frame, size_t length) {
    struct sockaddr_ll address = {0};
    socklen_t size = sizeof address;
    ssize_t count = recvfrom(socket, frame, length, MSG_DONTWAIT, (struct sockaddr *)&address, &size);
    *interface_index = address.sll_ifindex;
    return count;
}

ssize_t clinux_send_frame(int socket, int interface_index, const void *frame, size_t length) {
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = interface_index};
    // Filters on the way out go by it; some kernels don't find it in the frame themselves.
    if (length >= ETH_HLEN) memcpy(&address.sll_protocol, (const char *)frame + 12, 2);
    return sendto(socket, frame, length, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address);
}

void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name); }

int clinux_unsent_bytes(int socket) {
    int bytes = 0;
    return ioctl(socket, SIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

int clinux_waiting_clients(int listener) {
    struct tcp_info info;
    socklen_t length = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) return -1;
    // Of a listening socket, what is called unacked is the length of its queue (tcp_get_info).
    return info.tcpi_state == TCP_LISTEN ? (int)info.tcpi_unacked : -1;
}

static long call(long number, long a, long b, long c, long d, long e, long f) {
#ifdef __x86_64__
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#else
    long result = syscall(number, a, b, c, d, e, f);
    return result < 0 ? -errno : result;
#endif
}

ssize_t clinux_receive(int socket, void *bytes, size_t length) {
    return call(SYS_recvfrom, socket, (long)bytes, (long)length, 0, 0, 0);
}

ssize_t clinux_send(int socket, const void *bytes, size_t length, int flags) {
    return call(SYS_sendto, socket, (long)bytes, (long)length, flags, 0, 0);
}

int clinux_wait(int epoll, struct epoll_event *events, int events_max, int timeout_ms) {
    // epoll_wait itself isn't there on every architecture. The last argument is the size of a signal set.
    return (int)call(SYS_epoll_pwait, epoll, (long)events, events_max, timeout_ms, 0, 8);
}

ssize_t clinux_splice(int from, int to, size_t length, int more) {
    return call(SYS_splice, from, 0, to, 0, (long)length,
                SPLICE_F_MOVE | SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0));
}

ssize_t clinux_write_at_once(int descriptor, const void *bytes, size_t length) {
    struct stat status;
    // A file's write waits for a disk at most, and without waiting it would fail whenever it needs another page.
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) return write(descriptor, bytes, length);
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = length};
    ssize_t count = pwritev2(descriptor, &piece, 1, -1, RWF_NOWAIT);
    return count < 0 && errno == EOPNOTSUPP ? write(descriptor, bytes, length) : count;
}

int clinux_set_pipe_size(int pipe, int bytes) {
    int size = fcntl(pipe, F_SETPIPE_SZ, bytes);
    return size < 0 ? fcntl(pipe, F_GETPIPE_SZ) : size;
}

int clinux_enter_network_namespace(int descriptor) { return setns(descriptor, CLONE_NEWNET); }

int clinux_enter_process_namespace(int descriptor) { return setns(descriptor, CLONE_NEWPID); }

int clinux_unshare_network(void) { return unshare(CLONE_NEWNET); }

int clinux_unshare_user(void) { return unshare(CLONE_NEWUSER); }

int clinux_terminal_size(int descriptor, int *columns, int *rows) {
    struct winsize size;
    if (ioctl(descriptor, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0) return -1;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}
