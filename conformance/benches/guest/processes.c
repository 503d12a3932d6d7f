/* Times what processes and threads do to each other, from inside: prints one JSON object,
 * microseconds each. Run natively, under varve and under runsc alike.
 * Usage: processes; it executes itself with an argument for `exec`. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS = 5 };

static double now(void)
{
	struct timespec t;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void check(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void reap(pid_t pid)
{
	int status;

	check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "a child");
}

static void fork_wait(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	reap(pid);
}

static void run(pid_t pid)
{
	if (pid == 0) {
		execl("/proc/self/exe", "processes", "exec", (char *)0);
		_exit(1);
	}
	reap(pid);
}

static void fork_exec_wait(void)
{
	run(fork());
}

static void vfork_exec_wait(void)
{
	run(vfork());
}

static void *nothing(void *arg)
{
	return arg;
}

static void thread_join(void)
{
	pthread_t thread;

	check(pthread_create(&thread, NULL, nothing, NULL) == 0, "pthread_create");
	pthread_join(thread, NULL);
}

static int to[2], from[2];

static void echo(void)
{
	char c;

	while (read(to[0], &c, 1) == 1 && write(from[1], &c, 1) == 1)
		;
	_exit(0);
}

static void ping_pong(void)
{
	char c = 1;

	check(write(to[1], &c, 1) == 1 && read(from[0], &c, 1) == 1, "ping-pong");
}

static int *turn;

static void wait_turn(int mine)
{
	int seen;

	while ((seen = __atomic_load_n(turn, __ATOMIC_ACQUIRE)) != mine)
		syscall(SYS_futex, turn, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void give_turn(int to)
{
	__atomic_store_n(turn, to, __ATOMIC_RELEASE);
	syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void *answer(void *arg)
{
	for (;;) {
		wait_turn(1);
		give_turn(0);
	}
	return arg;
}

static void hand_over(void)
{
	give_turn(1);
	wait_turn(0);
}

static void on_signal(int signal)
{
}

static void signal_self(void)
{
	kill(getpid(), SIGUSR1);
}

static void clock_library(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
}

static void null_call(void)
{
	syscall(SYS_getppid);
}

static void map_touch(void)
{
	size_t len = 64 * 4096;
	char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(at != MAP_FAILED, "mmap");
	for (size_t i = 0; i < len; i += 4096)
		at[i] = 1;
	munmap(at, len);
}

/* Microseconds of one round: the best of some repeats, after one that warms up. */
static void report(const char *name, void (*round)(void), int rounds)
{
	static int some;
	double best = 1e18;

	for (int r = 0; r <= REPEATS; r++) {
		double start = now(), each;

		for (int i = 0; i < rounds; i++)
			round();
		each = (now() - start) / rounds;
		if (r > 0 && each < best)
			best = each;
	}
	printf("%s\"%s\": %.3f", some++ ? ", " : "{", name, best);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	pid_t pid;

	if (argc > 1)
		return 0;
	signal(SIGUSR1, on_signal);
	report("null", null_call, 2000);
	report("clock_gettime", clock_library, 20000);
	report("signal_self", signal_self, 500);
	report("map_touch_64", map_touch, 50);
	report("fork_wait", fork_wait, 50);
	report("fork_exec_wait", fork_exec_wait, 50);
	report("vfork_exec_wait", vfork_exec_wait, 50);
	report("thread_join", thread_join, 100);
	check(pipe(to) == 0 && pipe(from) == 0, "pipe");
	pid = fork();
	if (pid == 0)
		echo();
	report("pipe_ping_pong", ping_pong, 500);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, to) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, from) == 0, "socketpair");
	pid = fork();
	if (pid == 0)
		echo();
	report("socket_ping_pong", ping_pong, 500);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(pthread_create(&thread, NULL, answer, NULL) == 0, "pthread_create");
	report("futex_hand_over", hand_over, 500);
	printf("}\n");
	return 0;
}
