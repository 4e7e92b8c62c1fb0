// Preloaded into the program under test: counts, by thread, what it allocates and which references it counts.
//
// It defines malloc and its kin, and the runtime functions that Swift code calls for objects and references; the loader
// prefers these. What the runtime does within itself is seen only where it allocates. (Its hooks for profilers would see
// that, too, but they take an immortal string for an object.) The counts lie in a file that whoever started the program
// maps, too. While `armed`, the first events of worker threads leave a trace.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum kind { ALLOCATE, FREE, OBJECT, RETAIN, RELEASE, KINDS };
enum { THREADS_MAX = 256, TRACES_MAX = 64, FRAMES_MAX = 14 };

// The layout that `run` unpacks.
struct counts {
    uint64_t thread;
    uint64_t of[KINDS];
};
struct trace {
    uint64_t kind;
    uint64_t frames[FRAMES_MAX];
};
static struct shared {
    uint64_t armed;
    uint64_t traced;
    struct trace traces[TRACES_MAX];
    uint64_t threads;
    struct counts counts[THREADS_MAX];
} *shared;

static __thread struct counts *mine __attribute__((tls_model("initial-exec")));
static __thread bool tracing __attribute__((tls_model("initial-exec")));

static void leave_trace(enum kind kind) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (strncmp(name, "worker", 6) != 0) return;
    uint64_t place = __atomic_fetch_add(&shared->traced, 1, __ATOMIC_RELAXED);
    if (place >= TRACES_MAX) return;
    void *frames[FRAMES_MAX] = {0};
    tracing = true;
    backtrace(frames, FRAMES_MAX);
    tracing = false;
    shared->traces[place].kind = kind;
    for (int index = 0; index < FRAMES_MAX; index++)
        shared->traces[place].frames[index] = (uint64_t)(uintptr_t)frames[index];
}

static void count(enum kind kind) {
    if (shared == NULL || tracing) return;
    if (mine == NULL) {
        uint64_t place = __atomic_fetch_add(&shared->threads, 1, __ATOMIC_RELAXED);
        // More threads than there are places share the last one.
        mine = &shared->counts[place < THREADS_MAX ? place : THREADS_MAX - 1];
        mine->thread = (uint64_t)gettid();
    }
    mine->of[kind]++;
    if (__builtin_expect(shared->armed != 0, 0)) leave_trace(kind);
}

// MARK: the C library

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t size) {
    count(ALLOCATE);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count(ALLOCATE);
    return __libc_calloc(number, size);
}

void *realloc(void *pointer, size_t size) {
    count(ALLOCATE);
    return __libc_realloc(pointer, size);
}

void *memalign(size_t alignment, size_t size) {
    count(ALLOCATE);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **pointer, size_t alignment, size_t size) {
    *pointer = memalign(alignment, size);
    return *pointer == NULL ? ENOMEM : 0;
}

void free(void *pointer) {
    if (pointer == NULL) return;
    count(FREE);
    __libc_free(pointer);
}

// MARK: the Swift runtime

// What the program calls, counted as `kind` and passed on to the runtime. These have C's calling convention on x86-64.
#define COUNTED(kind, result, name, parameters, arguments)                  \
    result name parameters {                                                \
        static result(*next) parameters;                                    \
        count(kind);                                                        \
        if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name);        \
        return next arguments;                                              \
    }

COUNTED(OBJECT, void *, swift_allocObject, (const void *type, size_t size, size_t mask), (type, size, mask))
COUNTED(RETAIN, void *, swift_retain, (void *object), (object))
COUNTED(RETAIN, void *, swift_retain_n, (void *object, uint32_t number), (object, number))
COUNTED(RETAIN, void *, swift_tryRetain, (void *object), (object))
COUNTED(RETAIN, void *, swift_bridgeObjectRetain, (void *object), (object))
COUNTED(RETAIN, void *, swift_bridgeObjectRetain_n, (void *object, uint32_t number), (object, number))
COUNTED(RELEASE, void, swift_release, (void *object), (object))
COUNTED(RELEASE, void, swift_release_n, (void *object, uint32_t number), (object, number))
COUNTED(RELEASE, void, swift_bridgeObjectRelease, (void *object), (object))
COUNTED(RELEASE, void, swift_bridgeObjectRelease_n, (void *object, uint32_t number), (object, number))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HOTPATH_COUNTS");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    // The first call of `backtrace` loads a library.
    void *frame;
    backtrace(&frame, 1);
    if (memory != MAP_FAILED) shared = memory;
}
