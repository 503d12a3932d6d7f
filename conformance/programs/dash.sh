# dash: job control, traps, here documents, pipes.
exec dash <<'SHELL'
set -m
sleep 30 & kill -STOP $!; sleep 0.2; jobs; kill -KILL $!; sleep 0.2; wait $!; echo $?
(exit 3) | (exit 4); echo $?
trap 'echo usr2' USR2; kill -USR2 $$; trap - USR2
trap 'echo bye' EXIT
cat <<END | tr a-z A-Z
text $((3 * 4))
END
sh -c 'kill -ABRT $$'; echo $?
f() { local x=1; echo "$x $1"; }; f two
case abc in a*) echo star;; esac
umask 027; : >/tmp/masked; stat -c %a /tmp/masked
command -v dash; type cd; times | wc -l
for s in HUP INT QUIT PIPE ALRM TERM USR1 CHLD; do sh -c "kill -$s \$\$; sleep 0" ; echo "$s $?"; done
ulimit -c 0; ulimit -s; cd /; pwd -P
SHELL
