// Cases on the files of two layers, natively on a copy of what they should be together; see guest.h.
//
// dir/a dir/sub/x dir/sub/y of the lower layer, dir/new dir/sub/z of the upper, which took dir/b away; file
// replaced by the upper; gone taken away; opaque/ made anew with opaque/fresh; one and two the same file of
// the lower; large 20000 bytes of the lower; link -> file; hollow/ empty since the upper took hollow/last
// away; was-file and was-dir changed their types.
#include "guest.h"

static long ino(const char *path) {
    struct stat s;
    return lstat(path, &s) ? -1 : (long)s.st_ino;
}

static int links(const char *path) {
    struct stat s;
    return lstat(path, &s) ? -1 : (int)s.st_nlink;
}

static void list(const char *path) {
    struct dirent **names;
    int n = scandir(path, &names, 0, alphasort);
    printf("%s:", path);
    for (int i = 0; i < n; i++) printf(" %s(%d)", names[i]->d_name, names[i]->d_type);
    puts(n < 0 ? " -" : "");
}

static void c_as_it_is(void) {
    list("."); list("dir"); list("dir/sub"); list("opaque"); list("hollow"); list("was-file"); list("was-dir");
    T(access("gone", F_OK)); T(access("dir/b", F_OK)); T(access("opaque/old", F_OK)); T(access("hollow/last", F_OK));
    T(links("one")); T(links("link")); T(ino("one") == ino("two")); T(ino("one") == ino("file"));
}

static void c_append(void) {
    long before = ino("large");
    int read_only = open("large", O_RDONLY), fd = open("large", O_WRONLY | O_APPEND);
    T(write(fd, "more", 4));
    T(ino("large") == before);
    show(read_only);
    T(pwrite(open("dir/a", O_RDWR), "Z", 1, 0));
}

static void c_truncate(void) {
    T(truncate("large", 5000));
    T(truncate("large", 9000));
    int fd = open("file", O_RDWR | O_TRUNC);
    T(lseek(fd, 0, SEEK_END));
    T(truncate("dir/sub", 0));
}

static void c_attributes(void) {
    struct timespec times[2] = {{11, 12}, {13, 14}};
    struct stat s;
    long before = ino("dir/a");
    T(chmod("dir/a", 0600));
    T(utimensat(AT_FDCWD, "dir/a", times, 0));
    T(chmod("dir/sub", 0711));
    T(setxattr("dir/a", "user.name", "value", 5, 0));
    T(getxattr("dir/a", "user.name", buf, 100));
    T(removexattr("dir/a", "user.none"));
    stat("dir/a", &s);
    printf("%ld.%ld %d\n", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec, ino("dir/a") == before);
    T(utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW));
}

static void c_hard_links(void) {
    long before = ino("two");
    T(pwrite(open("one", O_RDWR), "changed", 7, 0));
    show(open("two", O_RDONLY));
    T(ino("one") == before && ino("two") == before);
    T(link("two", "dir/three"));
    T(links("one"));
    T(unlink("one"));
    T(links("dir/three"));
    T(link("large", "dir/sub/large2"));
    T(links("large"));
    T(rename("two", "dir/three"));
}

static void c_rename_files(void) {
    long before = ino("dir/a");
    T(rename("dir/a", "gone"));
    T(ino("gone") == before);
    T(rename("file", "dir/b"));
    T(rename("large", "dir/new"));
    T(rename("dir/none", "x"));
    T(open("dir/a", O_CREAT | O_EXCL, 0600) >= 0);
    T(rename("link", "dir/sub/link"));
}

static void c_rename_directories(void) {
    long before = ino("dir/sub/x");
    T(rename("dir", "moved"));
    T(ino("moved/sub/x") == before);
    T(mkdir("dir", 0755));
    list("dir");
    T(rename("moved/sub", "dir/sub"));
    T(rename("opaque", "hollow"));
    T(rename("hollow", "dir"));
    T(rename("dir", "dir/sub/dir"));
    list("hollow"); list("moved"); list("dir/sub");
    T(rename("dir/sub", "gone"));
    T(unlink("gone/x"));
    T(rename("gone", "dir/again"));
    list("dir/again");
}

static void c_exchange(void) {
    T(renameat2(AT_FDCWD, "dir", AT_FDCWD, "file", RENAME_EXCHANGE));
    T(renameat2(AT_FDCWD, "one", AT_FDCWD, "two", RENAME_EXCHANGE));
    T(renameat2(AT_FDCWD, "large", AT_FDCWD, "gone", RENAME_EXCHANGE));
    T(renameat2(AT_FDCWD, "large", AT_FDCWD, "link", RENAME_NOREPLACE));
    list("file");
}

static void c_remove(void) {
    T(rmdir("dir")); T(rmdir("hollow")); T(unlink("link")); T(unlink("link"));
    T(unlink("dir/a")); T(unlink("dir/new")); T(unlink("dir/sub/x")); T(unlink("dir/sub/y"));
    T(rmdir("dir/sub")); T(unlink("dir/sub/z")); T(rmdir("dir/sub")); list("dir"); T(rmdir("dir"));
    T(mkdir("dir", 0700)); list("dir"); T(mkdir("dir/sub", 0700)); list("dir/sub");
    T(mkdir("hollow", 0700)); list("hollow");
    T(mkdir("gone", 0700)); list("gone");
}

static void c_remove_while_reading(void) {
    DIR *dir = opendir("dir/sub");
    struct dirent *entry;
    int seen = 0;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') { seen++; unlinkat(dirfd(dir), entry->d_name, 0); }
    T(seen);
    rewinddir(dir);
    T(readdir(dir) != 0); T(readdir(dir) != 0); T(readdir(dir) != 0);
    T(rmdir("dir/sub"));
    T(mkdirat(dirfd(dir), "late", 0700));
}

static void c_unlinked_but_open(void) {
    int fd = open("large", O_RDWR), dir = open("dir/sub", O_RDONLY);
    T(unlink("large"));
    T(pwrite(fd, "hidden", 6, 10000));
    show(fd);
    T(open("large", O_CREAT | O_EXCL | O_RDWR, 0600) >= 0);
    show(fd);
    T(openat(dir, "x", O_RDONLY) >= 0);
    T(rename("dir", "elsewhere"));
    T(openat(dir, "../a", O_RDONLY) >= 0);
    T(openat(dir, "made", O_CREAT, 0600) >= 0);
}

static void c_mappings(void) {
    int fd = open("large", O_RDWR);
    char *private = mmap(0, 20000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *shared = mmap(0, 20000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *only = mmap(0, 20000, PROT_READ, MAP_SHARED, open("large", O_RDONLY), 0);
    printf("%c %c %c\n", private[5000], shared[5000], only[5000]);
    private[4096] = 'p';
    shared[5000] = 's';
    T(pwrite(fd, "w", 1, 9000));
    printf("%c %c %c %c\n", private[4096], shared[4096], only[5000], shared[9000]);
    printf("%c %c\n", only[9000], private[9000]);
    T(msync(shared, 20000, MS_SYNC));
    T(truncate("large", 3000));
    printf("%d %d\n", shared[2999], shared[3500]);
}

static void c_temporary(void) {
    int fd = open("dir/sub", O_TMPFILE | O_RDWR, 0640);
    T(write(fd, "linked later", 12));
    char path[64];
    sprintf(path, "/proc/self/fd/%d", fd);
    T(linkat(AT_FDCWD, path, AT_FDCWD, "dir/b", AT_SYMLINK_FOLLOW));
    T(linkat(AT_FDCWD, path, AT_FDCWD, "dir/a", AT_SYMLINK_FOLLOW));
}

static void c_types(void) {
    T(unlink("file")); T(mkdir("file", 0700)); T(symlink("dir", "gone")); T(open("gone/a", O_RDONLY) >= 0);
    T(rmdir("gone")); T(unlink("was-dir")); T(mkdir("was-dir", 0700)); list("was-dir");
    T(rmdir("was-file")); T(unlink("was-file/in")); T(rmdir("was-file")); T(mkfifo("was-file", 0600));
    T(open("dir/a/b", O_RDONLY)); T(open("link", O_RDONLY | O_NOFOLLOW)); T(open("link/", O_RDONLY));
}

static void c_permissions(void) {
    // As root these hold too: a read-only descriptor, a directory as a file.
    T(write(open("large", O_RDONLY), "x", 1)); T(open("dir", O_RDWR)); T(ftruncate(open("large", O_RDONLY), 1));
    T(fchmod(open("large", O_RDONLY), 0604)); T(fchmod(open("dir", O_RDONLY), 0750));
    T(fallocate(open("large", O_RDWR), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    show(open("large", O_RDONLY));
}

#define CASES(X) X(as_it_is) X(append) X(truncate) X(attributes) X(hard_links) X(rename_files) X(rename_directories) X(exchange) X(remove) X(remove_while_reading) X(unlinked_but_open) X(mappings) X(temporary) X(types) X(permissions)

#include "main.h"
