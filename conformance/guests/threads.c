// Threads that hand numbers to each other through a queue with a mutex and condition variables (futexes),
// while a timer interrupts them and a signal goes from one to another. What it prints does not depend on
// who was faster.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { PRODUCERS = 3, CONSUMERS = 3, EACH = 200, ROOM = 4 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static int queue[ROOM], count, taken;
static long sum;
static volatile sig_atomic_t ticks, told;

static void on_tick(int signal) { ticks++; }
static void on_tell(int signal) { told++; }

static void *produce(void *first) {
	for (int i = 0; i < EACH; i++) {
		pthread_mutex_lock(&lock);
		while (count == ROOM)
			pthread_cond_wait(&emptied, &lock);
		queue[count++] = (int)(long)first + i;
		pthread_cond_signal(&filled);
		pthread_mutex_unlock(&lock);
	}
	return 0;
}

static void *consume(void *unused) {
	for (;;) {
		pthread_mutex_lock(&lock);
		while (count == 0 && taken < PRODUCERS * EACH)
			pthread_cond_wait(&filled, &lock);
		if (count == 0) {
			pthread_cond_broadcast(&filled);
			pthread_mutex_unlock(&lock);
			return 0;
		}
		sum += queue[--count];
		if (++taken == PRODUCERS * EACH)
			pthread_cond_broadcast(&filled);
		pthread_cond_signal(&emptied);
		pthread_mutex_unlock(&lock);
	}
}

static void *wait_for_signal(void *unused) {
	while (!told)
		usleep(1000);
	return 0;
}

int main(void) {
	struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &action, 0);
	action.sa_handler = on_tell;
	sigaction(SIGUSR1, &action, 0);
	struct itimerval every = {{0, 2000}, {0, 2000}};
	setitimer(ITIMER_REAL, &every, 0);
	pthread_t threads[PRODUCERS + CONSUMERS], waiter;
	pthread_create(&waiter, 0, wait_for_signal, 0);
	for (long i = 0; i < PRODUCERS; i++)
		pthread_create(&threads[i], 0, produce, (void *)(i * 1000));
	for (int i = 0; i < CONSUMERS; i++)
		pthread_create(&threads[PRODUCERS + i], 0, consume, 0);
	for (int i = 0; i < PRODUCERS + CONSUMERS; i++)
		pthread_join(threads[i], 0);
	pthread_kill(waiter, SIGUSR1);
	pthread_join(waiter, 0);
	while (ticks < 3)
		pause();
	// Registers that only the floating-point state of the signal frames keeps.
	double x = 1;
	for (int i = 0; i < 1000000; i++)
		x = x * 1.0000001 + 1e-9;
	memset(&every, 0, sizeof every);
	setitimer(ITIMER_REAL, &every, 0);
	printf("%d taken, sum %ld, %.6f\n", taken, sum, x);
	return 0;
}
