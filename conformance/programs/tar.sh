# GNU tar: formats, attributes, incremental and sparse archives, links, exclusion.
export LC_ALL=C TZ=UTC
mkdir -p /tmp/t/src/d; cd /tmp/t
seq 1000 >src/a; ln src/a src/hard; ln -s a src/soft; mkfifo src/p; truncate -s 10M src/sparse; echo end >>src/sparse; mknod src/null c 1 3; touch -d @1.5 src/d/t; chmod 2750 src/d; setfattr -n user.note -v value src/a 2>/dev/null || python3 -c 'import os; os.setxattr("src/a", "user.note", b"value")'
touch -d @1000000000 src src/d src/a src/p src/sparse src/null; touch -hd @1000000000 src/soft
for format in gnu pax ustar; do tar --format=$format --sort=name --pax-option=exthdr.name=%d/h/%f,delete=atime,delete=ctime -cf $format.tar src; tar tvf $format.tar; done
tar -c --sort=name -S --xattrs --pax-option=exthdr.name=%d/h/%f,delete=atime,delete=ctime -f s.tar src; stat -c %s s.tar; mkdir out; tar -xpf s.tar -C out --xattrs --xattrs-include='*' --same-owner --numeric-owner; diff -r --no-dereference -x p -x null src out/src && echo same; stat -c '%n %F %h %a %Y %b' out/src/*; python3 -c 'import os; print(os.getxattr("out/src/a", "user.note"))'
tar -df s.tar; echo "difference: $?"; echo more >>src/a; tar -df s.tar; echo "difference: $?"
tar -czf z.tgz src; tar -cJf z.txz src
# There is no zstd: what is said of that depends on whether tar or the end of its child comes first.
tar --zstd -cf z.tzst src 2>/dev/null; echo $?; for z in z.*; do tar -tf $z | sort | md5sum; done
tar -c --listed-incremental=snap -f 0.tar src; echo new >src/new; tar -c --listed-incremental=snap -f 1.tar src; tar -tf 1.tar --incremental | sort
tar -rf ustar.tar src/new; tar -uf ustar.tar src/a; tar --delete -f ustar.tar src/p; tar -tf ustar.tar | sort; tar -cf - --exclude='*.tar' --exclude=sparse --transform 's/src/renamed/' src | tar -tf - | sort; tar -xOf gnu.tar src/a | tail -n 1; tar -xf gnu.tar src/d --strip-components=1 -C out && ls out; tar -xf missing.tar; echo $?; (cd /usr && tar -cf - include lib/git-core) | (mkdir copy && tar -xf - -C copy); diff -r --no-dereference /usr/include copy/include && echo copied; tar -cM -L 200 -f v1 -f v2 -f v3 src/a out 2>&1 | head -n 3
