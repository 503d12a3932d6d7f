# find, xargs and locate's relatives over the tree that both sides share.
export LC_ALL=C
cd /usr
find lib -name '*.so*' -type l -printf '%p -> %l\n' | sort | md5sum
find . -xdev -type f -size +1M -printf '%s %p\n' | sort | md5sum
find bin -perm -4000 -printf '%m %p\n' | sort; find bin -perm /6000 | wc -l; find . -xdev -links +1 -type f | sort | md5sum
find share -maxdepth 2 -type d -empty | sort | head; find lib -newer bin/perl -type f -name '*.pm' | wc -l; find bin -xdev -inum "$(stat -c %i bin/perl)" | sort
find include -name 'std*.h' -exec wc -l {} + | sort | tail -n 3; find include -name 'u*.h' -execdir basename {} \; | sort | head -n 5
find share -path '*/perl*' -prune -o -name 'B*' -print | sort | head; find -L bin -xtype l | sort | head -n 3; find . -xdev -regextype posix-extended -regex '.*/(awk|perl|python3)' | sort
find lib -type f -print0 | sort -z | xargs -0 -n 50 -P 2 cat | wc -c; seq 1000 | xargs -n 100 echo | wc -l; seq 4 | xargs -I{} -P 1 echo 'item {}'; printf 'a b\nc\n' | xargs -d '\n' -n 1; echo x | xargs -r false; echo $?; echo | xargs -r echo never; seq 3 | xargs sh -c 'exit 255'; echo $?; xargs --show-limits -r </dev/null 2>&1 | tail -n 1 | wc -l
mkdir -p /tmp/f/{a,b}/{c,d}; cd /tmp/f; touch a/x 'b/with space' $'b/new\nline'; find . -print0 | sort -z | tr '\0' '|'; echo; find . -depth -type d -name c -delete; find . | sort; find . -user root -group root -mmin -5 | wc -l; find . -type f -ok true \; </dev/null 2>/dev/null; find /nonexistent; echo $?; find . -samefile a/x; find . -name x -printf '%f %d %h %y %M %U %k %s\n'; find / -xdev -name passwd -path '/etc/*' 2>/dev/null
