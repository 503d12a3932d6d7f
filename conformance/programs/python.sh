# Python: threads, multiprocessing, subprocess, asyncio, sqlite3, ctypes, mmap, signals, select.
mkdir /tmp/py; cd /tmp/py
cat >work.py <<'PY'
import asyncio, concurrent.futures, ctypes, fcntl, mmap, multiprocessing, os, queue, resource, select, selectors, shutil, signal, socket, sqlite3, subprocess, sys, tempfile, threading, time

def square(x):
    return x * x

def child(conn, lock, value):
    with lock:
        value.value += 1
    conn.send(("from", "child"))
    conn.close()

def threads():
    q, seen = queue.Queue(), []
    def worker():
        while (item := q.get()) is not None:
            seen.append(item)
            q.task_done()
    pool = [threading.Thread(target=worker) for _ in range(8)]
    for t in pool: t.start()
    for i in range(1000): q.put(i)
    q.join()
    for _ in pool: q.put(None)
    for t in pool: t.join()
    print("threads", sum(seen), len(seen))
    event, timer = threading.Event(), None
    timer = threading.Timer(0.02, event.set); timer.start()
    print("timer", event.wait(2), threading.Event().wait(0.01), threading.active_count())
    with concurrent.futures.ThreadPoolExecutor(4) as ex:
        print("executor", sum(ex.map(square, range(100))))
    local = threading.local(); local.x = 1
    sem = threading.BoundedSemaphore(2); print(sem.acquire(timeout=0.01), sem.acquire(timeout=0.01), sem.acquire(timeout=0.01))

def processes():
    for method in ("fork", "spawn", "forkserver"):
        ctx = multiprocessing.get_context(method)
        with ctx.Pool(3) as pool:
            print(method, sum(pool.map(square, range(200))))
        a, b = ctx.Pipe()
        lock, value = ctx.Lock(), ctx.Value("i", 0)
        procs = [ctx.Process(target=child, args=(b, lock, value)) for _ in range(2)]
        for p in procs: p.start()
        print(a.recv(), a.recv())
        for p in procs: p.join()
        print([p.exitcode for p in procs], value.value)
    with multiprocessing.Manager() as manager:
        d = manager.dict(); d["x"] = 1; l = manager.list([1, 2]); l.append(3)
        print("manager", dict(d), list(l))
    from multiprocessing import shared_memory
    shm = shared_memory.SharedMemory(create=True, size=4096); shm.buf[:4] = b"abcd"
    other = shared_memory.SharedMemory(shm.name); print(bytes(other.buf[:4])); other.close(); shm.close(); shm.unlink()
    with concurrent.futures.ProcessPoolExecutor(2) as ex:
        print("process pool", list(ex.map(square, range(5))))

def subprocesses():
    print(subprocess.run("echo out; echo err >&2; exit 3", shell=True, capture_output=True))
    p = subprocess.Popen(["sort"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(p.communicate("b\na\n"))
    try: subprocess.run(["sleep", "5"], timeout=0.05)
    except subprocess.TimeoutExpired as e: print("timeout")
    try: subprocess.run(["/no/such"])
    except FileNotFoundError as e: print(e)
    p = subprocess.Popen(["sleep", "5"], start_new_session=True); os.killpg(p.pid, signal.SIGINT); print(p.wait())
    print(subprocess.run(["sh", "-c", "kill -9 $$"]).returncode)
    print(subprocess.run(["id", "-u"], user=1000, capture_output=True).stdout, subprocess.run(["pwd"], cwd="/usr", capture_output=True).stdout)
    big = subprocess.run(["cat"], input=bytes(1 << 20), capture_output=True); print(len(big.stdout))

async def asynchronous():
    async def tick(n):
        await asyncio.sleep(n / 100)
        return n
    print(await asyncio.gather(*(tick(n) for n in (3, 1, 2))))
    p = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1); print(await p.communicate(b"async"))
    p = await asyncio.create_subprocess_shell("exit 4"); print(await p.wait())
    try: await asyncio.wait_for(asyncio.sleep(5), 0.02)
    except asyncio.TimeoutError: print("timed out")
    loop = asyncio.get_running_loop()
    print(await loop.run_in_executor(None, square, 9))
    got = asyncio.Event(); loop.add_signal_handler(signal.SIGUSR1, got.set); os.kill(os.getpid(), signal.SIGUSR1); await got.wait(); print("signal")
    async def serve(reader, writer):
        writer.write((await reader.readline()).upper()); await writer.drain(); writer.close()
    server = await asyncio.start_unix_server(serve, "/tmp/py/sock")
    reader, writer = await asyncio.open_unix_connection("/tmp/py/sock"); writer.write(b"line\n"); print(await reader.read()); writer.close(); server.close()
    a, b = socket.socketpair(); a.setblocking(False); b.send(b"x"); print(await loop.sock_recv(a, 10))

def files():
    db = sqlite3.connect("t.db"); db.execute("pragma journal_mode = wal"); db.execute("create table t(a integer primary key, b)")
    with db: db.executemany("insert into t(b) values(?)", [(str(i),) for i in range(5000)])
    print(db.execute("select count(*), max(b) from t").fetchone()); db.close()
    with open("m", "w+b") as f:
        f.truncate(1 << 20)
        with mmap.mmap(f.fileno(), 0) as m:
            m[:5] = b"hello"; m.flush(); m.madvise(mmap.MADV_DONTNEED) if hasattr(m, "madvise") else None
            print(m.find(b"llo"), m[4096], os.pread(f.fileno(), 5, 0)); m.resize(8192); print(len(m), os.fstat(f.fileno()).st_size)
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open("m") as g:
            try: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e: print(e)
        fcntl.lockf(f, fcntl.LOCK_EX, 10)
        pid = os.fork()
        if pid == 0:
            try: fcntl.lockf(open("m", "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB, 5)
            except OSError as e: print("child:", e, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
    libc = ctypes.CDLL(None, use_errno=True); print(libc.strlen(b"four"), libc.open(b"/no/such", 0), os.strerror(ctypes.get_errno()))
    Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 5)(5, 2, 4, 1, 3); libc.qsort(numbers, 5, 4, Callback(lambda a, b: a[0] - b[0])); print(list(numbers))
    os.makedirs("tree/a/b"); [open(f"tree/a/{i}", "w").close() for i in range(5)]; print(sorted(os.listdir("tree/a"))); shutil.copytree("tree", "copy"); shutil.rmtree("tree"); print([sorted(f) for _, _, f in os.walk("copy")])
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING); os.write(fd, b"x" * 100); fcntl.fcntl(fd, 1033, 2)
    try: os.ftruncate(fd, 10)
    except OSError as e: print(e)
    print(os.sendfile(os.open("out", os.O_CREAT | os.O_RDWR), fd, 0, 50), os.stat("out").st_size, os.get_terminal_size.__name__)
    os.setxattr("out", "user.a", b"1"); print(os.listxattr("out"), os.copy_file_range(os.open("out", os.O_RDONLY), os.open("out2", os.O_CREAT | os.O_RDWR), 10, 0, 0))

def waiting():
    r, w = os.pipe()
    for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        with kind() as s:
            s.register(r, selectors.EVENT_READ); s.register(w, selectors.EVENT_WRITE)
            print(kind.__name__, sorted(k.fd == w for k, _ in s.select(0.01)))
    seen = []
    signal.signal(signal.SIGALRM, lambda *a: seen.append("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    while len(seen) < 3: signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0); print(seen)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); os.kill(os.getpid(), signal.SIGUSR2); print(signal.sigwait([signal.SIGUSR2]), signal.sigtimedwait([signal.SIGUSR2], 0.01))
    pid = os.fork()
    if pid == 0: os._exit(9)
    print(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    pid = os.fork()
    if pid == 0: signal.pause()
    fd = os.pidfd_open(pid); signal.pidfd_send_signal(fd, signal.SIGTERM); print(select.select([fd], [], [], 2)[0] == [fd], os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0, time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) > 0, time.thread_time() >= 0, os.cpu_count() > 0, len(os.sched_getaffinity(0)) > 0, os.times().user >= 0)
    start = time.monotonic(); time.sleep(0.02); print(time.monotonic() - start >= 0.02)
    print(os.posix_spawn("/bin/true", ["true"], {}) > 0, os.wait()[1])
    start = time.process_time()
    while time.process_time() - start < 0.02: pass
    print("spun")

if __name__ == "__main__":
    what = sys.argv[1]
    asyncio.run(asynchronous()) if what == "asynchronous" else globals()[what]()
PY
for part in threads processes subprocesses asynchronous files waiting; do echo "== $part"; python3 work.py $part 2>&1; echo "status $?"; done
