# PHP on the command line: files, processes, streams.
cd /tmp; cat >main.php <<'PHP'
<?php
file_put_contents('/tmp/a.txt', str_repeat("line\n", 1000)); echo count(file('/tmp/a.txt')), "\n";
$p = proc_open('cat; exit 6', [['pipe', 'r'], ['pipe', 'w']], $pipes); fwrite($pipes[0], 'in'); fclose($pipes[0]); echo stream_get_contents($pipes[1]), ' ', proc_close($p), "\n";
echo shell_exec('echo shell | tr a-z A-Z'); exec('exit 3', $o, $s); echo $s, "\n";
$f = fopen('/tmp/l', 'w'); var_dump(flock($f, LOCK_EX | LOCK_NB)); $g = fopen('/tmp/l', 'w'); var_dump(flock($g, LOCK_EX | LOCK_NB));
[$a, $b] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); fwrite($a, "pair\n"); echo fgets($b); $r = [$b]; $w = $e = null; echo stream_select($r, $w, $e, 0, 10000), "\n";
$server = stream_socket_server('unix:///tmp/php.sock'); $client = stream_socket_client('unix:///tmp/php.sock'); $c = stream_socket_accept($server); fwrite($c, 'served'); fclose($c); echo stream_get_contents($client), "\n";
mkdir('/tmp/ph/a/b', 0755, true); touch('/tmp/ph/a/f', 1000); foreach (new RecursiveIteratorIterator(new RecursiveDirectoryIterator('/tmp/ph', FilesystemIterator::SKIP_DOTS), 1) as $x) $n[] = (string) $x; sort($n); print_r($n); echo filemtime('/tmp/ph/a/f'), "\n"; var_dump(rename('/tmp/ph/a/f', '/tmp/ph/g'), @rmdir('/tmp/ph'));
$x = []; for ($i = 0; $i < 200000; $i++) $x["k$i"] = $i; echo array_sum($x), ' ', md5(serialize($x)), "\n"; echo json_encode(['a' => 1.5, 'b' => [true, null]]), ' ', strlen(random_bytes(5)), ' ', PHP_OS, "\n"; usleep(1000); echo date('Y', 0), "\n"; if (function_exists('pcntl_fork')) { $pid = pcntl_fork(); if (!$pid) exit(8); pcntl_waitpid($pid, $st); echo pcntl_wexitstatus($st), "\n"; pcntl_async_signals(true); pcntl_signal(SIGUSR1, fn() => print("usr1\n")); posix_kill(getmypid(), SIGUSR1); }
function gen() { for ($i = 0; $i < 3; $i++) yield $i; } foreach (gen() as $v) echo $v; echo "\n"; error_log('to stderr'); exit(7);
PHP
php main.php 2>/dev/null; echo "status $?"; echo '<?php echo strrev(fgets(STDIN)), PHP_EOL;' >s.php; echo abc | php s.php; php -r 'function f($n) { return $n ? 1 + f($n - 1) : 0; } echo f(20000), "\n";'
