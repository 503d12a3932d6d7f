// `main` for the cases that the macro `CASES(X)` lists; included last.
int main(int argc, char **argv) {
    struct { const char *name; void (*run)(void); } cases[] = {
#define X(name) {#name, c_##name},
        CASES(X)
    };
    setvbuf(stdout, 0, _IOFBF, 1 << 16);
    umask(022);
    syscall(SYS_close_range, 3, ~0u, 0); // what the caller left open
    int home = open(".", O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (argc > 1 && !strcmp(argv[1], "list")) puts(cases[i].name);
        if (argc > 1 && !strcmp(argv[1], cases[i].name)) { cases[i].run(); fchdir(home); tree("."); return 0; }
    }
    return argc > 1 && !strcmp(argv[1], "list") ? 0 : 2;
}
