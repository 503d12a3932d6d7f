# Perl: processes, pipes, signals, locks, sockets, files.
perl -MPOSIX -MFile::Find -MFcntl=:flock -MIO::Select -MSocket -MTime::HiRes=alarm,sleep -MFile::Temp=tempdir -e '
$| = 1; my $d = tempdir(CLEANUP => 1);
my %n; find(sub { $n{(split /\./)[-1]}++ if -f && /\./ }, "/usr/include"); print "$_ $n{$_}\n" for sort keys %n;
for my $i (1 .. 5) { my $p = fork // die; if (!$p) { sleep $i / 5; exit $i } } my @e; while ((my $p = wait) > 0) { push @e, $? >> 8 } print "@e\n";
pipe my $r, my $w; if (!fork) { close $r; print $w "line $_\n" for 1 .. 1000; exit } close $w; my @l = <$r>; print scalar(@l), $l[-1]; wait;
local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 0.03; select undef, undef, undef, 5 }; print $@;
open my $f, ">", "$d/f"; flock $f, LOCK_EX; open my $g, ">>", "$d/f"; print flock($g, LOCK_EX | LOCK_NB) ? "locked" : "refused $!", "\n";
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC or print "no socketpair: $!\n"; syswrite $a, "over a socket"; sysread $b, my $t, 100; print "$t\n"; my $s = IO::Select->new($b); print scalar($s->can_read(0.01)), "\n";
print `echo from a shell; exit 2`, $? >> 8, "\n"; system "kill -TERM \$\$"; print $? & 127, "\n"; open my $p, "|-", "tr a-z A-Z" or die; print $p "upper\n"; close $p;
my $set = POSIX::SigSet->new(SIGUSR1); sigprocmask(SIG_BLOCK, $set); kill USR1 => $$; my $pend = POSIX::SigSet->new; sigpending($pend); print $pend->ismember(SIGUSR1), "\n"; local $SIG{USR1} = sub { print "usr1\n" }; sigprocmask(SIG_UNBLOCK, $set);
mkdir "$d/x"; rename "$d/f", "$d/x/f"; print join(",", map { s{.*/}{}r } glob "$d/x/*"), "\n"; symlink "f", "$d/x/l"; print readlink "$d/x/l", "\n"; print join(" ", (stat "/etc/passwd")[2, 3, 4, 5]) =~ /^33188 1 0 0/ ? "ok\n" : "no\n"; utime 5, 7, "$d/x/f"; print join(" ", (stat "$d/x/f")[8, 9]), "\n"; truncate "$d/x/f", 1000; print -s "$d/x/f", "\n"; opendir my $h, "/usr/lib/git-core"; print scalar(my @x = readdir $h), "\n"; print join(" ", (getpwnam "root")[2, 7]), " $0 ", strftime("%F", gmtime 1e9), "\n"; print "threads " . (eval { require threads; my @t = map { my $n = $_; threads->create(sub { $n * 2 }) } 1 .. 4; join ",", map { $_->join } @t } // $@), "\n"; exec "sh", "-c", "echo replaced; exit 5"
'; echo "status $?"; perl -e 'print "deep ", (sub { my $f = shift; my $g; $g = sub { $_[0] ? 1 + $g->($_[0] - 1) : 0 }; $g->($f) })->(20000), "\n"' 2>/dev/null; perl -e 'my %h; $h{$_ % 1000} .= $_ for 1 .. 300000; print length(join "", map { $h{$_} } sort keys %h), "\n"'
