//! Real programs of a Debian root file system in four layers, natively in a chroot on the merged tree and in
//! a sandbox on the images.
//!
//! `rootfs/build` makes the layers; they are kept in the target directory. The native side sees the same
//! images through the kernel: EROFS mounts under one overlayfs with a scratch upper directory.

use std::process::{Command, Output};

use varve_conformance::native::{self, Native, difference};
use varve_conformance::{debian, platforms, run, skip, status, varve};

/// What runs, as arguments of `sh -c` or `bash -c`. Every program prints the same wherever it runs.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("jobs", "sh", "(sleep 0.1; echo slow | tr a-z A-Z) & p=$!; (exit 3) & q=$!; echo first; wait $q; echo $?; wait $p; echo $?; wait; seq 1000 | sort -rn | head -n 3 | paste -sd+ "),
    ("find", "sh", "find / -xdev | LC_ALL=C sort"),
    ("find attributes", "sh", "find / -xdev ! -path '/proc*' ! -path '/dev*' ! -path '/sys*' ! -type d -printf '%M %n %u:%g %s %T+ %l %p\\n' | LC_ALL=C sort; find /etc /app /usr -type d -printf '%M %u:%g %T+ %p\\n' | LC_ALL=C sort"),
    ("ls", "sh", "ls -lR --full-time /usr"),
    ("tar", "sh", "tar c --one-file-system --exclude=./proc --exclude=./dev --exclude=./sys -C / . | tar t | LC_ALL=C sort; tar c --sort=name /usr /etc /app | sha256sum"),
    ("grep", "sh", "grep -r root /etc | LC_ALL=C sort; grep -rc import /usr/lib/python3 | LC_ALL=C sort | tail -n 200; grep -rl GNU /usr/share | wc -l"),
    ("python", "sh", "python3 -c \"
import json, ssl, sqlite3, decimal, hashlib, os, sys
total = hashlib.sha256()
for top in ('/usr/lib/python3', '/usr/lib/python3.11'):
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(files):
            with open(os.path.join(folder, name), 'rb') as file:
                total.update(file.read())
print(total.hexdigest())
print(json.dumps({'a': [1, 2.5, None]}), decimal.Decimal(1) / 7, ssl.OPENSSL_VERSION)
data = sqlite3.connect('/tmp/test.db')
data.execute('create table t(a, b)')
data.executemany('insert into t values(?, ?)', [(i, i * i) for i in range(1000)])
data.commit()
print(data.execute('select sum(b) from t where a % 3 = 0').fetchall(), os.path.getsize('/tmp/test.db'))
\""),
    ("python processes", "sh", "python3 -c \"
import subprocess, os, signal, tempfile, shutil, mmap, select, time
print(subprocess.run(['sh', '-c', 'cat; exit 7'], input=b'through a pipe', capture_output=True))
print(subprocess.check_output('ls / | wc -l', shell=True))
try:
    subprocess.run(['sleep', '10'], timeout=0.2)
except subprocess.TimeoutExpired as error:
    print(type(error))
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGTERM)
print(os.waitpid(pid, 0)[1], signal.SIGTERM.value)
signal.signal(signal.SIGALRM, lambda *_: print('alarm'))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(0.2)
folder = tempfile.mkdtemp()
shutil.copytree('/etc', folder + '/etc', symlinks=True)
print(sorted(os.listdir(folder + '/etc'))[:5])
with open(folder + '/m', 'w+b') as file:
    file.truncate(10000)
    m = mmap.mmap(file.fileno(), 10000)
    m[5000:5004] = b'abcd'
    m.flush()
    file.seek(5000)
    print(file.read(4))
shutil.rmtree(folder)
r, w = os.pipe()
print(select.select([r], [], [], 0.01), select.select([r], [w], [], 1)[1] == [w])
\""),
    ("perl", "sh", "perl -MPOSIX -MFile::Find -e 'my %n; find(sub { $n{substr($_, -3)}++ if -f }, \"/usr/lib\"); print \"$_ $n{$_}\\n\" for sort keys %n; print strftime(\"%Y\", gmtime(86400 * 365)), \"\\n\"; open(my $p, \"-|\", \"sort -u /etc/passwd\"); print <$p>; my $pid = fork; if (!$pid) { exit 5 } waitpid $pid, 0; print $? >> 8, \"\\n\"; local $SIG{USR1} = sub { print \"signal\\n\" }; kill USR1 => $$'"),
    ("awk", "sh", "awk -F: '{ n[$7]++ } END { for (s in n) print s, n[s] | \"sort\" }' /etc/passwd; awk 'BEGIN { while ((\"ls /usr\" | getline line) > 0) print line; printf \"%.10f %d\\n\", atan2(0, -1), 2 ^ 31; srand(1); exit 3 }'"),
    ("xz", "sh", "cat /usr/lib/x86_64-linux-gnu/libc.so.6 /usr/bin/perl | xz -9 | xz -d | sha256sum; xz -9 -T1 -c /usr/bin/perl | sha256sum; seq 100000 | gzip -n | sha256sum"),
    ("bash", "bash", "set +m; cat <<EOF
a here document in $(pwd) with ${#PATH}
EOF
cat <<<'a here string'
diff <(seq 5) <(seq 2 6)
while read -r a b; do echo \"$b $a\"; done < <(printf '1 2\\n3 4\\n')
tee >(tr a-z A-Z >/tmp/upper) <<<copied >/dev/null; sleep 0.2; cat /tmp/upper
coproc cat; echo through >&\"${COPROC[1]}\"; read -r line <&\"${COPROC[0]}\"; echo $line
trap 'echo trapped' USR1; kill -USR1 $$; trap 'echo bye' EXIT
sleep 5 & sleep 0.3; kill $!; wait $!; echo $?
mapfile -t lines </etc/shells; echo ${#lines[@]}; declare -A m=([a]=1 [b]=2); echo ${m[b]}
exec 5<>/tmp/both; echo both >&5; cat /tmp/both; ulimit -n >/dev/null; umask
false | true; echo ${PIPESTATUS[@]}; ( exit 42 )"),
    ("script", "sh", "cd /app && ./report one 'two three'; echo $?; PATH=/app:$PATH report; ./python -c 'import sys; print(sys.executable)'"),
    ("sqlite3", "sh", "cd /tmp && sqlite3 x.db 'create table t(a primary key, b); with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i, i * 7 % 1001 from n; create index ti on t(b); select b, count(*) from t group by b order by 2 desc, 1 limit 3; pragma integrity_check; vacuum' && sqlite3 x.db 'pragma journal_mode = wal; insert into t values (0, 0); select count(*) from t' && ls -l x.db | cut -d' ' -f5 && ls"),
    ("make", "sh", "cd /tmp && printf 'all: a b c\\n\\n%%:\\n\\t@echo making $@ > $@; cat $@\\nc: a b\\n' >Makefile && make -j1 && touch -d '2001-01-01' a && make && make -n -B; echo $?"),
    ("change files", "sh", "cd /usr/share && cp -a perl /tmp/perl && diff -r perl /tmp/perl && rm -rf perl && mv /tmp/perl perl && mv zoneinfo zoneinfo2 && ls -lR --time-style=+ perl | sha256sum; ls -d zone*; rm -rf /usr/share/zoneinfo2 /usr/lib/python3; ls /usr/lib | grep python; ln /usr/bin/perl /usr/bin/perl2; chmod 700 /usr/bin/perl2; stat -c '%h %a %s' /usr/bin/perl /app/xz /usr/bin/xz; echo more >>/app/xz; stat -c '%h %s' /app/xz /usr/bin/xz; dd if=/dev/zero of=/tmp/z bs=64k count=100 conv=notrunc 2>&1 | head -n 2; du -sb /etc | cut -f1 >/dev/null; sed -i s/root/ROOT/ /etc/passwd; head -n 1 /etc/passwd; stat -c '%F %s' /app/data/*; tail -c 4 /app/data/sparse; cat /etc/issue/one /etc/opt /etc/motd"),
    ("dpkg", "sh", "dpkg -l | tail -n +6 | awk '{ print $1, $2, $3 }'; dpkg -L xz-utils | head; dpkg -S /usr/bin/xz; cd /tmp && mkdir -p p/DEBIAN p/opt/x && printf 'Package: demo\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n' >p/DEBIAN/control && echo hi >p/opt/x/file && rm -f /etc/opt && SOURCE_DATE_EPOCH=0 dpkg-deb -b --root-owner-group p >/dev/null && dpkg -i p.deb && cat /opt/x/file && dpkg -r demo; ls /opt"),
    ("users", "sh", "id; su nobody -s /bin/sh -c 'id; cat /etc/shadow; ls -ld /root; touch /x; echo $HOME' 2>&1; useradd -m tester && su tester -c 'id; umask; touch ~/a && ls -la ~ | awk \"{print \\$1,\\$3,\\$4,\\$9}\"'; chage -l tester | tail -n 1; stat -c '%A %U' /usr/bin/su"),
    ("large", "sh", "seq 1 200000 | sort -R --random-source=/usr/bin/perl | sort -n | tail -n 1; yes | head -c 50000000 | wc -c; split -l 1000 -d -a 4 /usr/share/perl/5.36.0/unicore/Name.pl /tmp/s. ; cat /tmp/s.* | cmp - /usr/share/perl/5.36.0/unicore/Name.pl && ls /tmp | wc -l"),
    ("killed", "sh", "python3 -c 'import ctypes; ctypes.string_at(0)'; echo $?; sh -c 'kill -USR1 $$'; echo $?; exec python3 -c 'import ctypes; ctypes.string_at(0)'"),
    ("missing", "sh", "exec /no/such/program"),
];

#[test]
fn debian_runs_as_it_does_natively() {
    let varve = varve().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let images = match debian::images(&varve, dir.path()) {
        Ok(images) => images,
        Err(reason) => return skip("Debian in four layers", &reason),
    };
    let platforms = platforms(&varve);
    let only = std::env::var("VARVE_TEST_PROGRAM").ok();
    let mut different = Vec::new();
    for (round, &(name, shell, script)) in PROGRAMS.iter().enumerate() {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let scratch = dir.path().join(round.to_string());
        let native = match Native::new(&images, &scratch) {
            Ok(native) => native,
            Err(error) => {
                return skip(
                    "Debian in four layers",
                    &format!("mounting the layers: {error}"),
                );
            }
        };
        let shell = format!("/bin/{shell}");
        let start = std::time::Instant::now();
        let expected = run(
            native::environment(Command::new("/usr/sbin/chroot").arg(native.dir()))
                .args([&shell, "-c", script]),
        );
        let native_time = start.elapsed();
        drop(native);
        for platform in &platforms {
            let start = std::time::Instant::now();
            let mut sandbox = Command::new(&varve);
            sandbox.args(["do", "--platform", platform, "--hostname", "debian"]);
            for image in &images {
                sandbox.arg("--layer").arg(image);
            }
            let seen = run(sandbox.args(["--", &shell, "-c", script]));
            let time = start.elapsed();
            println!(
                "{name}: {:.2} s natively, {:.2} s on {platform}",
                native_time.as_secs_f64(),
                time.as_secs_f64()
            );
            if let Some(text) = compare(&expected, &seen) {
                different.push(format!("{name} on {platform}:\n{text}"));
            }
        }
    }
    assert!(
        different.is_empty(),
        "- natively, + in the sandbox\n{}",
        different.join("\n")
    );
}

fn compare(native: &Output, sandboxed: &Output) -> Option<String> {
    let texts = |output: &Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            text(&output.stdout),
            text(&output.stderr),
            status(output.status),
        )
    };
    let (expected, seen) = (texts(native), texts(sandboxed));
    if (&expected.0, expected.2) == (&seen.0, seen.2) {
        return None;
    }
    Some(format!(
        "status {} natively, {} in the sandbox\n{}stderr:\n{}",
        expected.2,
        seen.2,
        difference(&expected.0, &seen.0),
        difference(&expected.1, &seen.1),
    ))
}
