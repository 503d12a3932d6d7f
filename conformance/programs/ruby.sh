# Ruby: threads, fibers, processes, signals, sockets.
cd /tmp; cat >main.rb <<'RB'
require 'socket'; require 'timeout'; require 'open3'; require 'tempfile'; require 'json'; require 'digest'; require 'fileutils'; require 'io/wait'
$stdout.sync = true
q = Queue.new; threads = 4.times.map { |i| Thread.new { 100.times { |k| q << i * k } } }; threads.each(&:join); puts q.size
puts (begin Timeout.timeout(0.05) { sleep 5 } rescue $!.class end)
puts Open3.capture3('cat; echo err >&2; exit 4', stdin_data: 'in').map(&:to_s).map { |s| s.sub(/pid \d+/, 'pid') }.inspect
pid = fork { trap('TERM') { exit! 9 }; sleep }; sleep 0.1; Process.kill('TERM', pid); puts Process.wait2(pid)[1].exitstatus
r, w = IO.pipe; fork { r.close; w.puts 'child'; exit!(0) }; w.close; puts r.read; Process.wait
a, b = UNIXSocket.pair; a.write 'pair'; a.close; puts b.read
server = UNIXServer.new('/tmp/rb.sock'); t = Thread.new { s = server.accept; s.puts s.gets.upcase; s.close }; c = UNIXSocket.new('/tmp/rb.sock'); c.puts 'hello'; puts c.read; t.join
a, b = UNIXSocket.pair; File.write('/tmp/passed', 'passed file'); a.send_io(File.open('/tmp/passed')); puts b.recv_io.read
trap('USR1') { puts 'usr1' }; Process.kill('USR1', $$); sleep 0.05
f = Fiber.new { x = 0; loop { Fiber.yield x += 1 } }; 3.times { print f.resume, ' ' }; puts
e = Enumerator.new { |y| 3.times { |i| y << i } }; puts e.next + e.next
ra = 3.times.map { |i| Ractor.new(i) { |n| (1..1000).sum * n } } rescue []; puts ra.map(&:take).sum
FileUtils.mkdir_p('/tmp/rb/a'); File.write('/tmp/rb/a/b', 'x' * 1000); FileUtils.cp_r('/tmp/rb', '/tmp/rb2'); puts Dir.glob('/tmp/rb2/**/*').sort.inspect; puts File.stat('/tmp/rb2/a/b').size
puts File.open('/tmp/lock', 'w') { |f| f.flock(File::LOCK_EX); File.open('/tmp/lock') { |g| g.flock(File::LOCK_EX | File::LOCK_NB) } }.inspect
GC.start; s = []; 100_000.times { |i| s << i.to_s }; puts Digest::SHA256.hexdigest(s.join)[0, 16]; puts `echo shell`, $?.exitstatus; puts Process.clock_gettime(Process::CLOCK_MONOTONIC) > 0, Process.times.utime >= 0, Etc.nprocessors > 0 rescue puts $!.class
m = Mutex.new; cv = ConditionVariable.new; ready = false; t = Thread.new { m.synchronize { cv.wait(m) until ready; puts 'woken' } }; m.synchronize { ready = true; cv.signal }; t.join; at_exit { puts 'bye' }; def deep(n) = n.zero? ? 0 : 1 + deep(n - 1); puts deep(5000); begin; deep(10_000_000); rescue SystemStackError; puts 'deep'; end; exit 3
RB
ruby main.rb; echo "status $?"
