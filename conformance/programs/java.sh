# OpenJDK: javac, threads, the collectors, file channels, processes.
mkdir /tmp/java; cd /tmp/java
cat >Main.java <<'JAVA'
import java.io.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

public class Main {
	static native void nothing();
	public static void main(String[] args) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(8);
		List<Future<Long>> futures = new ArrayList<>();
		for (int i = 0; i < 50; i++) { final int n = i; futures.add(pool.submit(() -> LongStream.range(0, 10000).map(x -> x * n).sum())); }
		long sum = 0; for (Future<Long> f : futures) sum += f.get();
		System.out.println("sum " + sum); pool.shutdown(); System.out.println(pool.awaitTermination(5, TimeUnit.SECONDS));
		System.out.println("parallel " + IntStream.range(0, 100000).parallel().filter(x -> x % 3 == 0).count());
		byte[][] keep = new byte[64][]; for (int i = 0; i < 20000; i++) keep[i % 64] = new byte[10000]; System.gc(); System.out.println("garbage " + keep[3].length);
		Object lock = new Object(); AtomicInteger turns = new AtomicInteger();
		Thread[] ts = new Thread[2]; for (int t = 0; t < 2; t++) { final int me = t; ts[t] = new Thread(() -> { for (int i = 0; i < 500; i++) synchronized (lock) { while (turns.get() % 2 != me) try { lock.wait(); } catch (InterruptedException e) { return; } turns.incrementAndGet(); lock.notifyAll(); } }); ts[t].start(); } for (Thread t : ts) t.join(); System.out.println("turns " + turns);
		Thread sleeper = new Thread(() -> { try { Thread.sleep(10000); } catch (InterruptedException e) { System.out.println("interrupted"); } }); sleeper.start(); sleeper.interrupt(); sleeper.join();
		try (FileChannel c = FileChannel.open(Path.of("f"), StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
			c.write(ByteBuffer.wrap("hello channel".getBytes())); MappedByteBuffer m = c.map(FileChannel.MapMode.READ_WRITE, 0, 8192); m.put(4096, (byte) 'x'); m.force(); System.out.println(c.size() + " " + (char) m.get(0)); FileLock l = c.tryLock(); System.out.println(l.isValid()); l.release();
			try (FileChannel d = FileChannel.open(Path.of("g"), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) { System.out.println(c.transferTo(0, 100, d)); }
		}
		Process p = new ProcessBuilder("sh", "-c", "cat; exit 3").start(); p.getOutputStream().write("to a child".getBytes()); p.getOutputStream().close(); System.out.println(new String(p.getInputStream().readAllBytes()) + " " + p.waitFor());
		Process q = new ProcessBuilder("sleep", "10").start(); q.destroy(); System.out.println(q.waitFor());
		try { new ProcessBuilder("/no/such").start(); } catch (IOException e) { System.out.println(e.getMessage()); }
		try (Stream<Path> s = Files.walk(Path.of("/usr/include/linux"))) { System.out.println(s.count()); }
		WatchService w = FileSystems.getDefault().newWatchService(); Path dir = Files.createDirectory(Path.of("w")); dir.register(w, StandardWatchEventKinds.ENTRY_CREATE); Files.writeString(dir.resolve("new"), "x"); WatchKey k = w.poll(5, TimeUnit.SECONDS); for (WatchEvent<?> e : k.pollEvents()) System.out.println(e.kind() + " " + e.context());
		ScheduledExecutorService s = Executors.newScheduledThreadPool(1); System.out.println(s.schedule(() -> "scheduled", 20, TimeUnit.MILLISECONDS).get()); s.shutdownNow();
		try { recurse(0); } catch (StackOverflowError e) { System.out.println("overflow"); }
		try { Object o = null; o.hashCode(); } catch (NullPointerException e) { System.out.println("null"); }
		System.out.println(Runtime.getRuntime().availableProcessors() > 0); Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); System.out.println(ProcessHandle.current().info().command().isPresent());
		Pipe pipe = Pipe.open(); Selector sel = Selector.open(); pipe.source().configureBlocking(false); pipe.source().register(sel, SelectionKey.OP_READ); System.out.println(sel.select(20)); pipe.sink().write(ByteBuffer.wrap(new byte[1])); System.out.println(sel.select(1000));
		System.exit(4);
	}
	static int recurse(int n) { return recurse(n + 1) + 1; }
}
JAVA
javac Main.java && java -Xmx128m Main; echo "status $?"
for gc in Serial Parallel G1 Z; do rm -rf w; java -XX:+Use${gc}GC -Xmx128m -cp . Main 2>&1 | md5sum; done; rm -rf w; java -Xint -Xmx64m -cp . Main | tail -n 1
printf 'public class Oom { public static void main(String[] a) { byte[][] k = new byte[1000][]; for (int i = 0; i < 1000; i++) k[i] = new byte[1 << 20]; } }' >Oom.java; java -Xmx32m Oom.java 2>&1 | head -n 1; jar cfe m.jar Main Main*.class && rm -rf w && java -jar m.jar | head -n 1; kill -0 $$; java -version 2>&1 | head -n 1
