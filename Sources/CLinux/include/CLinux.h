// CLinux: the few Linux calls and constants that Swift's Glibc module can't import (macros, _GNU_SOURCE
// functions, variadics). Wrappers only: no policy, no state. Every symbol starts with `clinux_`.
// This header must not define _GNU_SOURCE: it would change types that Glibc's own module exports.
#ifndef CLINUX_H
#define CLINUX_H

#include <linux/filter.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/types.h>

/// accept4 with SOCK_NONBLOCK | SOCK_CLOEXEC.
int clinux_accept_nonblocking(int listener, struct sockaddr *address, socklen_t *length);

/// socket() with SOCK_NONBLOCK | SOCK_CLOEXEC added to the type.
int clinux_socket_nonblocking(int domain, int type, int protocol);

/// pipe2 with O_NONBLOCK | O_CLOEXEC.
int clinux_pipe_nonblocking(int descriptors[2]);

/// Makes a descriptor non-blocking; 0 or -1 with errno.
int clinux_set_nonblocking(int descriptor);

/// CLOCK_BOOTTIME in nanoseconds: goes on while the machine is suspended (a lease must end meanwhile).
uint64_t clinux_boot_nanoseconds(void);

/// CLOCK_REALTIME in milliseconds since 1970, for people only.
int64_t clinux_wall_milliseconds(void);

/// The errno of this thread, read right after a failed call.
int clinux_errno(void);

/// Raises the calling thread above the data plane: SCHED_RR if allowed, else nice -10, else nothing.
/// Returns 2, 1 or 0 accordingly.
int clinux_raise_priority(void);

/// Sends this process `signal` when the thread that made it ends (PR_SET_PDEATHSIG).
int clinux_die_with_parent(int signal);

/// The same for another process, such as a child just started. Returns 2, 1 or 0 likewise.
int clinux_raise_process(pid_t process);

/// Starts a program, without copying this process (vfork): its descriptors 0, 1 and 2 are the ones given, 3 is `keep`
/// unless that is -1, no others stay open, no signal is blocked. `death_signal`, unless 0, is sent to it when the calling thread ends, whatever
/// state it is in. `new_session` frees it from the terminal. The process id, or -1 with errno.
pid_t clinux_spawn(const char *path, char *const arguments[], char *const environment[], int input, int output,
                   int error, int keep, int death_signal, int new_session);

/// Closes descriptor `first` and those above in a child that posix_spawn starts; `actions` is a posix_spawn_file_actions_t.
/// 0 or an error number.
int clinux_close_from(void *actions, int first);

/// A datagram socket whose messages go to the Unix socket `path`, or to an abstract one if that begins with `@`; closed on
/// exec. -1 with errno when there is none.
int clinux_connect_unix_datagram(const char *path);

/// Lets programs that this one starts have a capability (CAP_…) that it has itself, also when not run by root: makes it
/// inheritable and ambient. 0 or -1 with errno.
int clinux_pass_on_capability(int capability);

/// A timer on CLOCK_BOOTTIME that kills this process (SIGKILL, also while it is stopped); 0 or -1 with errno.
int clinux_kill_timer(void **timer);

/// Sets when it fires, in CLOCK_BOOTTIME nanoseconds; 0 disarms it. 0 or -1 with errno.
int clinux_kill_timer_set(void *timer, uint64_t boot_nanoseconds);

/// What the kernel says of a network interface.
struct clinux_interface {
    int index;
    /// Set up by the administrator (IFF_UP).
    int up;
    /// 1 when it has Ethernet addresses (ARPHRD_ETHER).
    int ethernet;
    int loopback;
    uint8_t hardware[6];
};

/// Fills `found`; 0 or -1 with errno (ENODEV: there is none of that name).
int clinux_find_interface(const char *name, struct clinux_interface *found);

/// A non-blocking netlink socket for `protocol` (NETLINK_…), subscribed to `groups` (a bit each); -1 with errno.
int clinux_netlink_socket(int protocol, uint32_t groups);

/// Room for what a socket hasn't been asked for yet, past the system's limit where allowed (CAP_NET_ADMIN).
void clinux_enlarge_receive_buffer(int socket, int bytes);

/// Has the kernel run a classic BPF program over what a socket is to receive, before it takes room in the socket's
/// buffer; 0 or -1 with errno.
int clinux_attach_filter(int socket, const struct sock_filter *program, uint16_t length);

/// Datagrams that the kernel dropped because the filter refused them or the buffer was full, modulo 2^32; 0 when it
/// can't tell.
uint32_t clinux_socket_drops(int socket);

/// A non-blocking AF_PACKET socket that receives nothing; -1 with errno (EPERM: needs CAP_NET_RAW).
int clinux_packet_socket(void);

/// A non-blocking AF_PACKET socket that receives the whole frames of one Ethernet type (0x0806: ARP) that reach an
/// interface (0: any), also those for other stations; -1 with errno.
int clinux_packet_listener(int interface_index, uint16_t ethernet_type);

/// Receives a whole Ethernet frame, and tells at which interface; its length (what doesn't fit is cut), or -1 with errno.
ssize_t clinux_receive_frame(int socket, int *interface_index, void *frame, size_t length);

/// Sends a whole Ethernet frame, header included, out of an interface.
ssize_t clinux_send_frame(int socket, int interface_index, const void *frame, size_t length);

/// Names the calling thread for ps and top (15 characters at most).
void clinux_name_thread(const char *name);

/// Bytes that a connection's peer hasn't acknowledged (SIOCOUTQ); 0 when that isn't known.
int clinux_unsent_bytes(int socket);

/// Connections that wait to be accepted (TCP_INFO); -1 for a socket that doesn't listen, or no longer.
int clinux_waiting_clients(int listener);

// The calls that move a request's bytes, without what the C library adds to them: there they are points of cancellation,
// which costs two atomic exchanges a call. No thread here is ever cancelled. A count, or errno with its sign turned.

/// recv(2) without flags.
ssize_t clinux_receive(int socket, void *bytes, size_t length);

/// send(2).
ssize_t clinux_send(int socket, const void *bytes, size_t length, int flags);

/// epoll_wait(2).
int clinux_wait(int epoll, struct epoll_event *events, int events_max, int timeout_ms);

/// splice(2) with SPLICE_F_MOVE | SPLICE_F_NONBLOCK.
ssize_t clinux_splice(int from, int to, size_t length, int more);

/// Writes to a file; to a pipe or socket only as much as it takes without waiting, although its description may be a
/// blocking one. A count, or -1 with errno (EAGAIN: it takes nothing now). Before Linux 6.4 a pipe makes it wait.
ssize_t clinux_write_at_once(int descriptor, const void *bytes, size_t length);

/// Asks for room for `bytes` in a pipe (F_SETPIPE_SZ); what it has then (also when it may not have more), -1 with errno.
int clinux_set_pipe_size(int pipe, int bytes);

/// Enters the network namespace named by an open descriptor.
int clinux_enter_network_namespace(int descriptor);

/// Children of this thread start in the process namespace named by an open descriptor; 0 or -1 with errno.
int clinux_enter_process_namespace(int descriptor);

/// Moves the calling thread into a new network namespace; 0 or -1 with errno.
int clinux_unshare_network(void);

/// Moves the process (single-threaded only) into a new user namespace; 0 or -1 with errno.
int clinux_unshare_user(void);

/// The size of the terminal behind a descriptor; 0, or -1 when it is none.
int clinux_terminal_size(int descriptor, int *columns, int *rows);

#endif
