/* Times file calls over a stack of layers, from inside: prints one JSON object. Run natively in
 * a chroot and under varve alike.
 * Usage: files LAYERS FILES ROUNDS. Files are /layerNN/dMM/fKKKK, 20 directories in each layer. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STAT, OPEN, READ, KINDS };

static double now(void)
{
	struct timespec t;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void fail(const char *what, const char *path)
{
	fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

static void visit(int kind, const char *path)
{
	static char buf[4096];
	struct stat st;
	int fd;

	if (kind == STAT) {
		if (stat(path, &st) != 0)
			fail("stat", path);
		return;
	}
	fd = open(path, O_RDONLY);
	if (fd < 0)
		fail("open", path);
	if (kind == READ && read(fd, buf, sizeof buf) < 1000)
		fail("read", path);
	close(fd);
}

int main(int argc, char **argv)
{
	static const char *names[] = { "stat", "open_close", "open_read_close" };
	int layers = atoi(argv[1]), files = atoi(argv[2]), rounds = atoi(argv[3]);
	double best, t;
	char path[64];
	int i, k, l, r;

	printf("{");
	best = 1e9;
	for (r = 0; r < 20; r++) {
		t = now();
		for (i = 0; i < 2000; i++)
			syscall(SYS_getppid);
		t = (now() - t) / 2000;
		if (t < best)
			best = t;
	}
	printf("\"null\": %.4f", best);
	best = 1e9;
	for (r = 0; r < 5; r++) {
		volatile unsigned long x = 1;

		t = now();
		for (i = 0; i < 100000000; i++)
			x = x * 3 + i;
		t = now() - t;
		if (t < best)
			best = t;
	}
	printf(", \"compute\": %.1f", best);
	for (k = 0; k < KINDS; k++) {
		printf(", \"%s\": [", names[k]);
		for (l = 0; l < layers; l++) {
			double first = 0;

			best = 1e9;
			for (r = 0; r < rounds; r++) {
				t = now();
				for (i = 0; i < files; i++) {
					snprintf(path, sizeof path, "/layer%02d/d%02d/f%04d", l, i % 20, i);
					visit(k, path);
				}
				t = (now() - t) / files;
				if (r == 0)
					first = t;
				if (t < best)
					best = t;
			}
			printf("%s[%.4f, %.4f]", l ? ", " : "", first, best);
		}
		printf("]");
	}
	printf("}\n");
	return 0;
}
