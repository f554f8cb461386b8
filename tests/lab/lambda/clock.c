/* The clock of an execution environment in the lab, for processes that use their C library.
 *
 * Preloaded before all other libraries (LD_PRELOAD), it adds an offset to the machine's wall clock
 * and another to the monotonic clocks. The lab writes the offsets to a file while every process is
 * frozen, so an hour of freeze takes no time. Waits until an absolute time (futex, condition
 * variables, semaphores, clock_nanosleep) are converted to the machine's clock. CPU-time clocks are
 * not changed.
 *
 * A wait that is in progress at the freeze contains the old offset. The lab thaws a process with
 * SIGCONT, which has a handler here: it interrupts every thread's wait once, and the wait continues
 * with the time left by the new offset. Waits with a relative timeout (epoll_wait, poll) return
 * EINTR, as epoll_wait does after SIGCONT in any case. Only glibc's condition variables cannot be
 * interrupted: they wait for at most a second and then wake spuriously, as POSIX allows.
 *
 * Not covered: timerfd, POSIX timers, alarm, pthread_mutex_timedlock, programs without glibc, and
 * threads that block SIGCONT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define OFFSETS "/lab/clock/offsets"
#define SECOND INT64_C(1000000000)
#define INITIAL_EXEC __attribute__((tls_model("initial-exec")))

static const volatile struct {
    int64_t realtime, monotonic; /* nanoseconds */
} *offsets;

/* Set by the handler in the thread whose wait it interrupts. */
static __thread volatile sig_atomic_t thawed INITIAL_EXEC;

/* The C library's own functions. */
static struct {
    int (*clock_gettime)(clockid_t, struct timespec *);
    int (*clock_nanosleep)(clockid_t, int, const struct timespec *, struct timespec *);
    int (*cond_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    int (*sem_clockwait)(sem_t *, clockid_t, const struct timespec *);
    long (*syscall)(long, ...);
} libc;

static void on_thaw(int, siginfo_t *, void *);

static void fail(const char *what)
{
    fprintf(stderr, "clock.so: cannot %s: no lab clock for this process\n", what);
    abort();
}

static void *find(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function)
        fail(name);
    return function;
}

/* Other libraries' constructors may ask for the time before this one has run. */
__attribute__((constructor)) static void begin(void)
{
    if (offsets)
        return;
    libc.clock_gettime = find("clock_gettime");
    libc.clock_nanosleep = find("clock_nanosleep");
    libc.cond_clockwait = find("pthread_cond_clockwait");
    libc.sem_clockwait = find("sem_clockwait");
    libc.syscall = find("syscall");
    int file = open(OFFSETS, O_RDONLY | O_CLOEXEC);
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offsets, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        fail("map " OFFSETS);
    close(file);
    struct sigaction action = { .sa_sigaction = on_thaw, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGCONT, &action, NULL);
    offsets = map;
}

static int64_t offset(clockid_t clock)
{
    begin();
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_TAI:
        return offsets->realtime;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_BOOTTIME:
        return offsets->monotonic;
    default:
        return 0;
    }
}

static int64_t nanoseconds(const struct timespec *time)
{
    int64_t sum;
    if (__builtin_mul_overflow(time->tv_sec, SECOND, &sum) ||
        __builtin_add_overflow(sum, time->tv_nsec, &sum))
        return INT64_MAX; /* about 292 years, practically forever */
    return sum;
}

static struct timespec timespec(int64_t nanoseconds)
{
    if (nanoseconds < 0)
        nanoseconds = 0; /* in the past; the kernel accepts no negative time */
    return (struct timespec){ nanoseconds / SECOND, nanoseconds % SECOND };
}

/* The environment's clock. */
static int64_t now(clockid_t clock)
{
    struct timespec time;
    begin();
    libc.clock_gettime(clock, &time);
    return nanoseconds(&time) + offset(clock);
}

/* Converts a time on the environment's clock to the machine's. */
static struct timespec on_machine(clockid_t clock, int64_t moment)
{
    return timespec(moment == INT64_MAX ? moment : moment - offset(clock));
}

/* One thread receives the signal for the process, and forwards it to all others. */
static void on_thaw(int number, siginfo_t *info, void *context)
{
    (void)context;
    struct entry {
        uint64_t inode, place;
        unsigned short length;
        unsigned char type;
        char name[];
    };
    _Alignas(struct entry) char entries[2048];
    int before = errno;
    thawed = 1;
    int folder = info->si_code == SI_TKILL
        ? -1
        : (int)libc.syscall(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long size = 0, self = folder < 0 ? 0 : libc.syscall(SYS_gettid);
    while (folder >= 0 && (size = libc.syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0)
        for (long at = 0; at < size;) {
            struct entry *entry = (struct entry *)(entries + at);
            long thread = 0;
            for (const char *digit = entry->name; *digit >= '0' && *digit <= '9'; digit++)
                thread = thread * 10 + (*digit - '0');
            if (thread > 0 && thread != self)
                libc.syscall(SYS_tgkill, libc.syscall(SYS_getpid), thread, number);
            at += entry->length;
        }
    if (folder >= 0)
        libc.syscall(SYS_close, folder);
    errno = before;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    begin();
    int result = libc.clock_gettime(clock, time);
    int64_t added = offset(clock);
    if (result == 0 && added != 0)
        *time = timespec(nanoseconds(time) + added);
    return result;
}

int gettimeofday(struct timeval *time, void *zone)
{
    (void)zone; /* obsolete: the C library ignores it, too */
    struct timespec moment = timespec(now(CLOCK_REALTIME));
    *time = (struct timeval){ moment.tv_sec, moment.tv_nsec / 1000 };
    return 0;
}

time_t time(time_t *place)
{
    time_t seconds = now(CLOCK_REALTIME) / SECOND;
    if (place)
        *place = seconds;
    return seconds;
}

int timespec_get(struct timespec *time, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, time) == 0 ? base : 0;
}

/* A relative time is measured by the monotonic clock, for any clock. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left)
{
    int relative = !(flags & TIMER_ABSTIME), error;
    begin();
    if (offset(clock) == 0 && clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME)
        return libc.clock_nanosleep(clock, flags, wanted, left);
    if (wanted->tv_sec < 0 || wanted->tv_nsec < 0 || wanted->tv_nsec >= SECOND)
        return EINVAL;
    int64_t moment = nanoseconds(wanted);
    if (relative) {
        clock = CLOCK_MONOTONIC;
        if (__builtin_add_overflow(moment, now(clock), &moment))
            moment = INT64_MAX;
    }
    do {
        thawed = 0;
        struct timespec until = on_machine(clock, moment);
        error = libc.clock_nanosleep(clock, TIMER_ABSTIME, &until, NULL);
    } while (error == EINTR && thawed);
    if (error == EINTR && relative && left)
        *left = timespec(moment - now(clock));
    return error;
}

int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, wanted, left);
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *deadline)
{
    int64_t moment = nanoseconds(deadline), soon = now(clock) + SECOND;
    struct timespec until = on_machine(clock, moment < soon ? moment : soon);
    int error = libc.cond_clockwait(condition, mutex, clock, &until);
    /* Not repeated: a signal may have arrived since, and the caller must handle it. */
    return error == ETIMEDOUT && now(clock) < moment ? 0 : error;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline)
{
    /* Field in which glibc keeps the clock of pthread_condattr_setclock. */
    clockid_t clock = condition->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    return pthread_cond_clockwait(condition, mutex, clock, deadline);
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *deadline)
{
    int result;
    begin();
    do {
        thawed = 0;
        struct timespec until = on_machine(clock, nanoseconds(deadline));
        result = libc.sem_clockwait(semaphore, clock, &until);
    } while (result != 0 && errno == EINTR && thawed);
    return result;
}

int sem_timedwait(sem_t *semaphore, const struct timespec *deadline)
{
    return sem_clockwait(semaphore, CLOCK_REALTIME, deadline);
}

/* Rust's standard library waits on futexes directly, until an absolute time. */
static long futex(long *arguments)
{
    long operation = arguments[1], result;
    const struct timespec *deadline = (const struct timespec *)arguments[3];
    clockid_t clock = operation & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    int until_moment = (operation & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && deadline;
    do {
        thawed = 0;
        struct timespec until;
        long timeout = arguments[3];
        if (until_moment) {
            until = on_machine(clock, nanoseconds(deadline));
            timeout = (long)&until;
        }
        result = libc.syscall(SYS_futex, arguments[0], operation, arguments[2], timeout, arguments[4], arguments[5]);
    } while (until_moment && result == -1 && errno == EINTR && thawed);
    return result;
}

long syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    begin();
    if (number == SYS_futex)
        return futex(a);
    if (number == SYS_clock_gettime)
        return clock_gettime((clockid_t)a[0], (struct timespec *)a[1]);
    return libc.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
