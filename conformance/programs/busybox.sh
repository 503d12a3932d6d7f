# busybox: its applets, and a shell with nothing else.
export LC_ALL=C; mkdir -p /tmp/bb/bin; cd /tmp/bb; busybox --list | wc -l; busybox --install -s /tmp/bb/bin; exec env PATH=/tmp/bb/bin /bin/busybox sh <<'SHELL'
set -m; seq 10 | sort -rn | head -n 2; mkdir -p a/b; echo text >a/b/c; find a | sort; tar czf a.tgz a; tar tzf a.tgz; cpio -o -H newc 2>/dev/null <<X | cpio -t 2>/dev/null
a/b/c
X
md5sum a/b/c; sha256sum a/b/c; wc a/b/c; awk 'BEGIN { print 6 * 7 }'; sed s/text/other/ a/b/c; grep -r text a; xargs echo <a/b/c; od -c a/b/c; hexdump -C a/b/c; stat -c '%s %a' a/b/c; ls -l a/b | awk '{print $1, $3, $5}'; ln -s b a/l; readlink a/l; realpath a/l; cp -a a d; diff -r a d; echo $?; mv d e; rm -rf e; dd if=/dev/zero of=z bs=1k count=2 2>/dev/null; cmp z z; gzip -c z | gunzip | wc -c; bzip2 -c z | bunzip2 | wc -c; xzcat </dev/null; unexpand -a <<X
        x
X
vi --help 2>&1 | head -n 1 | cut -c1-7; sleep 30 & kill %1; wait; expr 3 + 4; date -u -d @0; printf '%d\n' 0x10; test -d a && echo dir; env -i A=1 env; id -u; uname -s; hostname >/dev/null; pwd; cal 1 2000 | head -n 2; bc <<X
2^64
X
dc -e '2 3 + p'; factor 91; tac a/b/c; rev a/b/c; cut -c2-3 a/b/c; tr a-z A-Z <a/b/c; paste a/b/c a/b/c; uniq a/b/c; split -b 2 a/b/c s.; ls s.*; base64 a/b/c; uuencode -m x <a/b/c | head -n 1; comm a/b/c a/b/c; timeout 1 true; timeout 0.1 sleep 5; echo $?; nice -n 3 nice; ps -o pid,comm >/dev/null; echo $?; free >/dev/null; echo $?; pidof nothing; echo $?; mktemp -u XXXXXX | wc -c; truncate -s 100 t; stat -c %s t; shuf -e a; mkfifo p; (echo fifo >p &) ; cat p; setsid true; flock z true; echo $?; usleep 10; time true 2>/dev/null; which ls; pgrep nothing; echo $?; nproc >/dev/null; crontab -l 2>&1 | head -n 0; strings z | wc -l; chroot / /bin/true; echo $?; ash -c 'echo ash $((1 + 1))'; getopt ab: -a -b x; mountpoint / ; mount >/dev/null; echo $?; df >/dev/null; echo $?; du -s a >/dev/null; uptime >/dev/null; echo $?; top -bn1 >/dev/null; echo $?; watch 2>&1 | head -n 1 | cut -c1-7; logger x 2>/dev/null; echo done
SHELL
