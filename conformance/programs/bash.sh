# bash with job control, without a terminal: stopped, continued, killed and waited for jobs, and what the
# shell says of them.
set -m
sleep 30 &
kill -STOP %1; sleep 0.2; jobs
kill -CONT %1; sleep 0.2; jobs
kill %1; wait %1; echo "killed: $?"
(exit 7) & wait $!; echo "exited: $?"
bash -c 'kill -SEGV $$' & wait $!; echo "signal: $?"
sleep 30 | sleep 30 & sleep 0.2
kill -TERM -- -$!  2>/dev/null || kill -TERM %+; wait %+ 2>/dev/null; echo "pipeline: $?"
# A job of its own process group does not get what is sent to ours.
bash -c 'trap "echo got usr1" USR1; kill -USR1 0; sleep 0.1; echo after' & wait $!
# A background child that stops itself, seen through wait and brought back by fg.
bash -c 'kill -STOP $$; echo resumed' &
sleep 0.3; jobs -s | sed 's/ *&$//'; fg %% >/dev/null; echo "fg: $?"
trap 'echo "chld"' CHLD; true & wait $!; trap - CHLD
trap 'echo "term trapped"' TERM; kill -TERM $$; trap - TERM
for i in 1 2 3; do (sleep 0.$((4 - i)); echo "job $i") & done; wait
wait -n 2>/dev/null; echo "none left: $?"
(exit 6) & wait -n; echo "first: $?"
ulimit -n 64; exec 3</dev/null; echo "limit: $(ulimit -n)"
(ulimit -f 1; trap '' XFSZ; dd if=/dev/zero of=/tmp/big bs=1024 count=3 2>&1 | head -n 1)
(ulimit -t 1; while :; do :; done); echo "processor limit: $?"
read -t 0.1 line < <(sleep 1); echo "read: $?"
printf '%s\n' {1..5} | while read -r n; do echo -n "$n "; done; echo
coproc { while read -r l; do echo "<$l>"; done; }; echo hi >&"${COPROC[1]}"; read -r answer <&"${COPROC[0]}"; echo "$answer"
eval "exec ${COPROC[1]}>&-"; wait
exec {fd}>/tmp/x; echo text >&"$fd"; exec {fd}>&-; cat /tmp/x
shopt -s extglob globstar nullglob
cd /usr/share; printf '%s\n' perl/**/Carp* | head -n 3; echo !(a*|b*|c*|d*|e*|f*|g*|[i-z]*|[A-Z]*)
echo "${BASH_VERSINFO[0]}" "$(type -t cd)" "$((2 ** 40))" "${PWD}"
