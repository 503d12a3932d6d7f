#!/bin/sh
# Cases in an empty directory for a shell with the usual programs: many processes, pipes and files at a time.
export LC_ALL=C
c_pipeline() { seq 1 5000 | sed 's/7/x/' | grep x | sort -r | uniq | awk '{ n += length($0) } END { print NR, n }'; }
c_sums() { seq 1 10000 >numbers; md5sum numbers; sha256sum numbers; cksum numbers; wc numbers; }
c_archive() { mkdir -p a/b a/c; seq 1 1000 >a/b/one; ln -s ../b/one a/c/two; tar c a | gzip >a.tar.gz; rm -r a; gunzip -c a.tar.gz | tar x; rm a.tar.gz; find a | sort; cat a/c/two | md5sum; }
c_background() { for i in 1 2 3 4 5 6 7 8; do (seq 1 $((i * 300)) | wc -l >out.$i) & done; wait; cat out.*; rm out.*; }
c_signals() { trap 'echo caught' USR1; kill -USR1 $$; sleep 100 & kill $!; wait $!; echo $?; sh -c 'kill -SEGV $$'; echo $?; }
c_fork_often() { i=0; while [ $i -lt 30 ]; do (exit $((i % 7))); s=$((s + $?)); i=$((i + 1)); done; echo $s; }
c_exec_often() { for i in $(seq 1 10); do /bin/true && /bin/false || /bin/echo -n "$i "; done; echo; }
c_here() {
	tr a-z A-Z <<-END
		here $((6 * 7))
	END
	read -r line <<-END
		$(echo nested)
	END
	echo "$line"
}
c_status() { sh -c 'exit 5'; echo $?; nothing-of-this-name 2>/dev/null; echo $?; /bin 2>/dev/null; echo $?; exit 77; }
c_fill() { dd if=/dev/zero bs=64k count=16 2>/dev/null | tee copy | md5sum; cmp copy copy && ls -l copy | awk '{ print $5 }'; }

cases='pipeline sums archive background signals fork_often exec_often here status fill'
case $1 in
list) for name in $cases; do echo "$name"; done ;;
*) "c_$1" ;;
esac
